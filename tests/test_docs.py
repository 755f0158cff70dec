"""The documentation says what is there: its code runs, and the reference is whole."""

import doctest
import inspect
import re
import types
from pathlib import Path

import pytest
from numpydoc.validate import validate
from test_docstrings import CALLABLES

import sknoisydim

DOCS = Path(__file__).parents[1] / "docs"
BUILT = {"_build", "_templates", "auto_examples", "generated", "sg_execution_times.rst"}
PAGES = [path for path in sorted(DOCS.rglob("*.rst")) if not BUILT & set(path.parts)]
# What numpydoc asks for and we do not; all other rules hold for every public name.
NOT_ASKED = {
    "ES01": "the summary says it all, where it does",
    "EX01": "a method is shown in the example of its class",
    "SA01": "there is not always another place to look",
    "PR08": "a description may start with the letter of the formula",
    "RT01": "a summary that starts with 'Return' says it",
    "RT02": "a return value is named where the name says something",
    "RT03": "the type of what is returned says enough of it, where it does",
    "RT04": "as PR08: a list of fields starts with the first of them",
    "SS05": "takes 'Minus' for a verb",
    "YD01": "the summary of an iterator says what it yields",
}
# A helper whose one line says it all has no list of parameters; where there is one, it is whole.
NOT_ASKED_OF_ONE_LINE = {"PR01"}
# Pages whose code takes long.
LONG = {"index", "quickstart"}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def name_of(path):
    return path.relative_to(DOCS).with_suffix("").as_posix()


def listed():
    """Every name that the reference lists or describes, without the package's."""
    text = (DOCS / "api" / "index.rst").read_text(encoding="utf-8")
    found = re.findall(r"^   ([A-Za-z_.]+)$", text, re.MULTILINE)
    return found + re.findall(r"^\.\. py:data:: sknoisydim\.(\S+)$", text, re.MULTILINE)


def declared():
    """Every public name: those of `__all__`, of modules that have one, and all public callables."""
    found = set(CALLABLES)
    for module in sknoisydim.__all__:
        value = getattr(sknoisydim, module)
        if isinstance(value, types.ModuleType):
            found |= {f"{module}.{name}" for name in getattr(value, "__all__", ())}
    return found


def documented_objects():
    """Names of every public class and function, and of the public methods written in the class."""
    for name, member in CALLABLES.items():
        yield name
        for inner, value in vars(member).items() if inspect.isclass(member) else ():
            kinds = (types.FunctionType, classmethod, staticmethod, property)
            if not inner.startswith("_") and isinstance(value, kinds) and value.__doc__:
                yield f"{name}.{inner}"


def test_docstrings_are_what_numpydoc_asks_for():
    wrong = {}
    for name in sorted(documented_objects()):
        found = validate(f"sknoisydim.{name}")
        excluded = set(NOT_ASKED)
        if "Parameters\n" not in found["docstring"]:
            excluded |= NOT_ASKED_OF_ONE_LINE
        wrong[name] = [error for error in found["errors"] if error[0] not in excluded]
    assert {name: errors for name, errors in wrong.items() if errors} == {}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * (name_of(page) in LONG))
        for page in PAGES
    ],
)
def test_code_on_the_page_runs(page):
    test = doctest.DocTestParser().get_doctest(
        page.read_text(encoding="utf-8"), {}, name_of(page), str(page), 0
    )
    report = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append)
    assert report == []


def test_reference_lists_every_public_name_once():
    names = listed()
    assert sorted(names) == sorted(set(names))
    assert declared() - set(names) == set(), "place it in docs/api/index.rst"
    assert set(names) - declared() == set(), "docs/api/index.rst lists what is not public"
