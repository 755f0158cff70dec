"""Checks of parameters, and one way from "a name, an object or a class" to a component."""

import contextlib
import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

# What other packages call our options.
SYNONYMS = {"gaussian": "normal", "gauss": "normal", "rbig": "rotation", "kpca": "kernel_pca"}


def check_integer(value: object, name: str, **limits: Any) -> int:
    """Return `value` as an int; `limits` are as of `check_real`."""
    return int(_within(value, name, numbers.Integral, "an integer", **limits))


def check_real(value: object, name: str, **limits: Any) -> float:
    """Return `value` as a finite float within `minimum` and `maximum`, if there are such.

    `closed` says which of them are allowed: "both", "left", "right" or "neither"; `also`, for
    messages, what the parameter takes besides, such as "'auto'".
    """
    return float(_within(value, name, numbers.Real, "a finite number", **limits))


def check_sizes(value: Any, name: str) -> list[int]:
    """Return widths of layers, of which there may be one, or none."""
    sizes = np.atleast_1d(np.asarray(value, dtype=object))
    return [check_integer(size, name, minimum=1) for size in sizes]


def _within(
    value: Any,
    name: str,
    number: Any,
    kind: str,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    closed: str = "both",
    also: str = "",
) -> Any:
    left, right = closed in ("both", "left"), closed in ("both", "right")
    ends = (">=" if left else ">", minimum), ("<=" if right else "<", maximum)
    limits = " and ".join(f"{sign} {end:g}" for sign, end in ends if math.isfinite(end))
    message = f"{name} must be {also and also + ' or '}{kind} {limits}".rstrip()
    if isinstance(value, bool) or not isinstance(value, number):
        raise TypeError(f"{message}, got {shown(value)}.")
    above = value >= minimum if left else value > minimum
    below = value <= maximum if right else value < maximum
    if not (above and below and -math.inf < value < math.inf):
        raise ValueError(f"{message}, got {value!r}.")
    return value


def shown(value: object) -> str:
    """Return the repr of a value on one line, cut to 100 characters, for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 100 else text[:97] + "..."


def is_auto(value: object) -> bool:
    """Tell whether a value is the string "auto"; arrays would answer the comparison with many."""
    return isinstance(value, str) and value == "auto"


def check_call(function: Any, source: str, *arguments: str) -> None:
    """See that a function takes these arguments, where it can tell; `source` says whose it is."""
    try:
        inspect.signature(function).bind(*arguments)
    except ValueError:  # it has no signature, such as one that is written in C
        return
    except TypeError as error:
        raise TypeError(
            f"{source} cannot be called as ({', '.join(arguments)}): {error}."
        ) from error


@contextlib.contextmanager
def naming(parameter: str, value: object) -> Iterator[None]:
    """Say which parameter an error comes from: its value may be a user's, and raise anything."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{parameter}={shown(value)}: {error}") from error
    except Exception as error:
        error.add_note(f"It came from {parameter}={shown(value)}.")
        raise


def check_boolean(value: object, name: str) -> bool:
    """Return `value` as a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def resolve(
    value: object,
    table: Mapping[str, Callable[..., object]],
    parameter: str,
    *,
    method: str = "build",
    also: Sequence[str] = (),
) -> Any:
    """Return the component that `value` stands for: a name, a class or an object with the method.

    An entry of `table`, or a class, is called; an object is cloned, which leaves the caller's as it
    is (with "__call__", where it is an estimator). `also`, for messages: what else is taken.
    """
    if method == "build":  # what has another one is called by its kind
        also = [*also, "an object with a method 'build'"]
    if isinstance(value, str):
        return table[check_name(value, table, parameter, also)]()
    is_kind = inspect.isclass(value) and hasattr(value, method)
    found: Any = instance_of(value, parameter) if is_kind else value
    if not callable(getattr(found, method, None)):
        raise TypeError(
            f"{parameter}={shown(value)} of type {type(value).__name__} is not understood: "
            f"it takes {allowed(table, also)}."
        )
    to_copy = method != "__call__" or isinstance(found, BaseEstimator)
    return clone(found, safe=False) if to_copy else found


def instance_of(kind: Any, parameter: str) -> Any:
    """Return an object of a class, which must need no parameters."""
    try:
        return kind()
    except TypeError as error:
        raise TypeError(
            f"{parameter} is the class {kind.__name__}, which needs parameters: pass an object, as "
            f"in {kind.__name__}(...)."
        ) from error


def set_seeds(estimator: Any, seed: int) -> None:
    """Set each `random_state` of a scikit-learn estimator, and of its parts, that is None."""
    for name, value in getattr(estimator, "get_params", dict)().items():
        if value is None and name.rpartition("__")[2] == "random_state":
            estimator.set_params(**{name: seed})


def check_name(
    value: object, table: Mapping[str, object], parameter: str, also: Sequence[str] = ()
) -> str:
    """Return a name, which has to be one of a table; `also` is as of `resolve`."""
    if not isinstance(value, str):
        raise TypeError(f"{parameter} must be {allowed(table, also)}, got {shown(value)}.")
    if value in table:
        return value
    meant = SYNONYMS.get(value.lower(), value.lower())
    close = [repr(name) for name in difflib.get_close_matches(meant, table, n=1)]
    close = ["None"] if meant == "none" and "None" in also else close
    hint = f" Did you mean {close[0]}?" if close else ""
    raise ValueError(f"{parameter}={value!r} is unknown; it takes {allowed(table, also)}.{hint}")


def allowed(table: Mapping[str, object], also: Sequence[str] = ()) -> str:
    """List the names of a table, and what else there is, for a message.

    >>> allowed({"whiten": 1, "batch": 2}, ["a number", "None"])
    "one of 'batch', 'whiten', a number or None"
    """
    *others, last = [", ".join(map(repr, sorted(table))), *also]
    return f"one of {', '.join(others)} or {last}" if others else f"one of {last}"
