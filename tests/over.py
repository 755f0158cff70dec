"""A rule for all members of a table is one test, which names the member that breaks it."""

import functools
import inspect
import itertools


def over(names="", rows=(), /, **tables):
    """Run a test for each member of a table, or each combination of members of several.

    A table is a dict of values, or yields them. Of names as in "value, error" each member is a row.
    """
    tables = ({names: rows} if names else {}) | tables
    members = [
        list(table.items()) if isinstance(table, dict) else [(value, value) for value in table]
        for table in tables.values()
    ]
    named = [name for table in tables for name in table.split(", ")]

    def decorate(test):
        @functools.wraps(test)
        def for_each(*args, **kwargs):
            for combination in itertools.product(*members):
                values = []
                for table, (_, value) in zip(tables, combination, strict=True):
                    values += value if ", " in table else [value]
                try:
                    test(*args, **kwargs, **dict(zip(named, values, strict=True)))
                except BaseException as error:
                    keys = ", ".join(str(key) for key, _ in combination)
                    error.add_note(f"with {', '.join(tables)} = {keys}")
                    raise

        fixtures = inspect.signature(test)
        rest = [p for p in fixtures.parameters.values() if p.name not in named]
        for_each.__signature__ = fixtures.replace(parameters=rest)
        return for_each

    return decorate
