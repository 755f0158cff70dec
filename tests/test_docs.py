"""The documentation says what is there: its code runs, and the reference is whole and right."""

import ast
import dataclasses
import doctest
import inspect
import re
import types
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

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
# Pages whose code takes long.
LONG = {"index", "quickstart"}
FLAGS, SLOW = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, pytest.mark.slow


def public_callables():
    """Yield each public class and function with the name that a user reaches it by."""
    for name in sknoisydim.__all__:
        value = getattr(sknoisydim, name)
        if inspect.isclass(value):
            yield name, value
        elif isinstance(value, types.ModuleType):
            for inner in getattr(value, "__all__", [n for n in vars(value) if n[0] != "_"]):
                member = getattr(value, inner)
                home = getattr(member, "__module__", None) or ""
                ours = home == value.__name__ or home.startswith(f"{value.__name__}.")
                if ours and (inspect.isclass(member) or inspect.isfunction(member)):
                    yield f"{name}.{inner}", member


def parameters(member):
    """The parameters that a user passes: for a class, those of its own `__init__`."""
    if inspect.isclass(member):
        member = member.__dict__.get("__init__")
    if not inspect.isroutine(member):
        return []
    found = inspect.signature(member).parameters.values()
    variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [one for one in found if one.name != "self" and one.kind not in variadic]


def documented(member):
    """What the list of parameters says of the type of each.

    The fields of a dataclass may stand under Attributes instead: a user reads them.
    """
    doc = NumpyDocString(inspect.getdoc(member) or "")
    listed = doc["Parameters"] + (doc["Attributes"] if dataclasses.is_dataclass(member) else [])
    return {name.strip().lstrip("*"): part.type for part in listed for name in part.name.split(",")}


def same(text, default):
    try:
        return ast.literal_eval(text) == default
    except (SyntaxError, ValueError):
        return text in (repr(default), str(default), getattr(default, "__name__", None))


CALLABLES = dict(public_callables())
CLASSES = [name for name, member in CALLABLES.items() if inspect.isclass(member)]
LISTING = [name for name, member in CALLABLES.items() if name in CLASSES or documented(member)]


def test_documented_defaults_are_those_of_the_signature():
    wrong = {}
    for name in LISTING:
        kinds = documented(CALLABLES[name])
        for parameter in parameters(CALLABLES[name]):
            said = re.search(r"\bdefault=(.*)$", kinds.get(parameter.name, ""))
            key = f"{name}({parameter.name})"
            if parameter.default is parameter.empty:
                if said:
                    wrong[key] = f"says {said.group()}, and has none"
            elif not said:
                wrong[key] = f"does not say default={parameter.default!r}"
            elif not same(said.group(1), parameter.default):
                wrong[key] = f"says {said.group()}, and has {parameter.default!r}"
    assert wrong == {}


@pytest.mark.parametrize("parameter", ["augmentation", "bound", "critic", "noise"])
def test_every_name_of_a_table_is_documented(parameter):
    module = getattr(sknoisydim, parameter if parameter == "noise" else f"{parameter}s")
    table = getattr(module, f"{parameter.upper()}S")
    text = inspect.getdoc(sknoisydim.NoisyDIMTransformer)
    said = re.search(rf"^{parameter} : .*?(?=^\w)", text, re.MULTILINE | re.DOTALL).group()
    assert [name for name in table if f'"{name}"' not in said] == []


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
    """Yield the name of every public class, function and method of our classes, and itself.

    But for methods of which a class above says it: `forward` is what its class is for.
    """
    kinds = (types.FunctionType, types.MethodType, property)
    for name, member in CALLABLES.items():
        yield name, member
        ours = [k for k in getattr(member, "__mro__", ()) if k.__module__.startswith("sknoisydim")]
        for inner in sorted({inner for kind in ours for inner in vars(kind) if inner[0] != "_"}):
            value = getattr(member, inner)
            inherited = inner == "forward" or inspect.getdoc(value)
            if isinstance(value, kinds) and (value.__doc__ or not inherited):
                yield f"{name}.{inner}", value


def test_each_parameter_and_result_is_described():
    lacking = {}
    for name, member in documented_objects():
        said = documented(member)
        found = [one.name for one in parameters(member) if one.name not in said]
        if inspect.isroutine(member):
            doc = NumpyDocString(inspect.getdoc(member) or "")
            returned = inspect.signature(member).return_annotation
            if returned not in (None, "None") and not doc["Returns"] + doc["Yields"]:
                found.append("its result")
        if found:
            lacking[name] = found
    assert lacking == {}


def test_docstrings_are_what_numpydoc_asks_for():
    wrong = {}
    for name, _ in documented_objects():
        found = validate(f"sknoisydim.{name}")
        # A helper whose one line says it all has no list of parameters; a list is whole.
        one_line = set() if "Parameters\n" in found["docstring"] else {"PR01"}
        excluded = NOT_ASKED.keys() | one_line
        wrong[name] = [error for error in found["errors"] if error[0] not in excluded]
    assert {name: errors for name, errors in wrong.items() if errors} == {}


MARKED = [pytest.param(p, id=name_of(p), marks=[SLOW] * (name_of(p) in LONG)) for p in PAGES]


@pytest.mark.parametrize("page", MARKED)
def test_code_on_the_page_runs(page):
    given = {"module_relative": False, "optionflags": FLAGS, "encoding": "utf-8"}
    assert doctest.testfile(str(page), **given).failed == 0


def test_reference_lists_every_public_name_once():
    names = listed()
    assert sorted(names) == sorted(set(names))
    assert declared() - set(names) == set(), "place it in docs/api/index.rst"
    assert set(names) - declared() == set(), "docs/api/index.rst lists what is not public"


def test_tests_that_the_pages_name_are_there():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"``(?:tests/\S+?::)?([tT]est_?\w+)``", text))
    tests = "\n".join(p.read_text(encoding="utf-8") for p in Path(__file__).parent.rglob("*.py"))
    assert len(named) > 10
    assert {name for name in named if not re.search(rf"(def|class) {name}\b", tests)} == set()
