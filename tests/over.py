"""A rule for all members of a table is one test, which names the member that breaks it."""

import functools
import inspect
import itertools


def over(**tables):
    """Run a test for each member of a table, or each combination of members of several.

    A table is a dict, whose values the test gets, or anything that yields them.
    """
    members = [
        list(table.items()) if isinstance(table, dict) else [(value, value) for value in table]
        for table in tables.values()
    ]

    def decorate(test):
        @functools.wraps(test)
        def for_each(*args, **kwargs):
            for combination in itertools.product(*members):
                names = ", ".join(str(name) for name, _ in combination)
                given = dict(zip(tables, (value for _, value in combination), strict=True))
                try:
                    test(*args, **kwargs, **given)
                except BaseException as error:
                    error.add_note(f"with {', '.join(tables)} = {names}")
                    raise

        fixtures = inspect.signature(test)
        rest = [p for p in fixtures.parameters.values() if p.name not in tables]
        for_each.__signature__ = fixtures.replace(parameters=rest)
        return for_each

    return decorate
