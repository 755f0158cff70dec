"""What a docstring says of a parameter is what the signature says."""

import ast
import dataclasses
import inspect
import re
import types

import pytest

import sknoisydim


def public_callables():
    """Yield each public class and function with the name that a user reaches it by."""
    for name in sknoisydim.__all__:
        value = getattr(sknoisydim, name)
        if not isinstance(value, types.ModuleType):
            if inspect.isclass(value):
                yield name, value
            continue
        names = getattr(value, "__all__", [n for n in vars(value) if not n.startswith("_")])
        for inner in names:
            member = getattr(value, inner)
            home = getattr(member, "__module__", None) or ""
            ours = home == value.__name__ or home.startswith(f"{value.__name__}.")
            if ours and (inspect.isclass(member) or inspect.isfunction(member)):
                yield f"{name}.{inner}", member


def parameters(member):
    """The parameters that a user passes: for a class, those of its own `__init__`."""
    if inspect.isclass(member):
        initialise = member.__dict__.get("__init__")
        if not inspect.isfunction(initialise):
            return {}
        found = list(inspect.signature(initialise).parameters.values())[1:]
    else:
        found = inspect.signature(member).parameters.values()
    return {parameter.name: parameter for parameter in found}


def documented(member):
    """The `name : type` lines of the Parameters section, as a dict.

    The fields of a dataclass may stand under Attributes instead: a user reads them.
    """
    title = "(?:Parameters|Attributes)" if dataclasses.is_dataclass(member) else "Parameters"
    doc = inspect.cleandoc(member.__doc__ or "")
    section = re.search(rf"(?ms)^{title}\n-+\n(.*?)(?=^\S[^\n]*\n---|\Z)", doc)
    found = {}
    for line in section.group(1).splitlines() if section else ():
        if re.match(r"[*\w]", line):
            names, _, kind = line.partition(" : ")
            found |= {name.strip().lstrip("*"): kind for name in names.split(",")}
    return found


def same(text, default):
    """Whether the text after `default=` is the default."""
    try:
        return ast.literal_eval(text) == default
    except (SyntaxError, ValueError):
        return text in (repr(default), str(default), getattr(default, "__name__", None))


CALLABLES = dict(public_callables())
CLASSES = [name for name, member in CALLABLES.items() if inspect.isclass(member)]
# A function whose one line says it all needs no list of parameters; with a list, it is whole.
LISTING = [name for name, member in CALLABLES.items() if name in CLASSES or documented(member)]


def test_documented_defaults_are_those_of_the_signature():
    wrong = {}
    for name in LISTING:
        kinds = documented(CALLABLES[name])
        for parameter in parameters(CALLABLES[name]).values():
            said = re.search(r"\bdefault=(.*)$", kinds.get(parameter.name, ""))
            key = f"{name}({parameter.name})"
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.default is parameter.empty:
                if said:
                    wrong[key] = f"says {said.group()}, and has none"
            elif not said:
                wrong[key] = f"does not say default={parameter.default!r}"
            elif not same(said.group(1), parameter.default):
                wrong[key] = f"says {said.group()}, and has {parameter.default!r}"
    assert wrong == {}


def test_public_methods_have_a_docstring():
    # `forward` is what its class is for, and the class says what it maps to what.
    silent = [
        f"{name}.{method}"
        for name in CLASSES
        for method, value in vars(CALLABLES[name]).items()
        if not method.startswith("_")
        and method != "forward"
        and (callable(value) or isinstance(value, property))
        and not inspect.getdoc(getattr(CALLABLES[name], method))
    ]
    assert silent == []


@pytest.mark.parametrize("parameter", ["augmentation", "bound", "critic", "noise"])
def test_every_name_of_a_table_is_documented(parameter):
    module = getattr(sknoisydim, parameter if parameter == "noise" else f"{parameter}s")
    table = getattr(module, f"{parameter.upper()}S")
    text = inspect.getdoc(sknoisydim.NoisyDIMTransformer)
    said = re.search(rf"^{parameter} : .*?(?=^\w)", text, re.MULTILINE | re.DOTALL).group()
    assert [name for name in table if f'"{name}"' not in said] == []
