"""Checks of parameters, and one way from "a name, an object or a class" to a component."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone


def check_integer(value: Any, name: str, *, minimum: int, also: str = "") -> int:
    """Return `value` as an int >= `minimum`.

    `also` is what the parameter takes besides, such as "'auto'"; only messages show it.

    Raises
    ------
    TypeError
        If `value` is not an integer (booleans are not).
    ValueError
        If it is smaller than `minimum`.
    """
    kind = f"{also} or an integer" if also else "an integer"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {kind} >= {minimum}, got {value!r}.")
    if value < minimum:
        raise ValueError(f"{name} must be {kind} >= {minimum}, got {value!r}.")
    return int(value)


def check_real(
    value: Any,
    name: str,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    closed: str = "both",
    also: str = "",
) -> float:
    """Return `value` as a finite float within the bounds.

    `closed` says which of the bounds are allowed themselves: "both", "left", "right" or "neither";
    `also` is as for integers.

    Raises
    ------
    TypeError
        If `value` is not a real number (booleans are not).
    ValueError
        If it is not finite or outside the bounds.
    """
    left, right = closed in ("both", "left"), closed in ("both", "right")
    limits = []
    if minimum > -math.inf:
        limits.append(f"{'>=' if left else '>'} {minimum:g}")
    if maximum < math.inf:
        limits.append(f"{'<=' if right else '<'} {maximum:g}")
    kind = f"{also} or a finite number" if also else "a finite number"
    message = f"{name} must be {kind} {' and '.join(limits)}".rstrip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{message}, got {value!r}.")
    number = float(value)
    above = number >= minimum if left else number > minimum
    below = number <= maximum if right else number < maximum
    if not (above and below and math.isfinite(number)):
        raise ValueError(f"{message}, got {value!r}.")
    return number


def is_auto(value: Any) -> bool:
    """Tell whether a value is the string "auto"; arrays would answer the comparison with many."""
    return isinstance(value, str) and value == "auto"


def check_boolean(value: Any, name: str) -> bool:
    """Return `value` as a bool.

    Raises
    ------
    TypeError
        If it is something else, be it true or false to Python.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def resolve(
    value: Any, table: Mapping[str, Any], parameter: str, *, method: str, also: str = ""
) -> Any:
    """Return the component that `value` stands for.

    Parameters
    ----------
    value : str, class or object
        A key of `table`; a class, which is called without arguments; or a component,
        which is cloned so that the caller's object never changes.
    table : mapping of str to class
        The named components of this kind.
    parameter : str
        Name of the user's parameter, for the error message.
    method : str
        Name of the method that makes an object a component of this kind.
    also : str, default=""
        What the parameter takes besides, for the error message.

    Returns
    -------
    component : object

    Raises
    ------
    ValueError
        If `value` is a string that is not in `table`.
    TypeError
        If `value` is something else without a method called `method`.
    """
    if isinstance(value, str):
        if value not in table:
            raise ValueError(unknown_option(value, table, parameter, also))
        return table[value]()
    if inspect.isclass(value) and callable(getattr(value, method, None)):
        return value()
    if callable(getattr(value, method, None)):
        return clone(value, safe=False)
    raise TypeError(
        f"{parameter}={value!r} of type {type(value).__name__} is not understood: it takes "
        f"{allowed(table, also)}, or an object with a method {method!r}."
    )


def check_name(value: Any, table: Mapping[str, Any], parameter: str) -> str:
    """Return a name, which has to be one of a table.

    Raises
    ------
    TypeError
        If it is no text.
    ValueError
        If it is not in the table.
    """
    if not isinstance(value, str):
        raise TypeError(f"{parameter} must be {allowed(table)}, got {value!r}.")
    if value not in table:
        raise ValueError(unknown_option(value, table, parameter))
    return value


def allowed(table: Mapping[str, Any], also: str = "") -> str:
    """List the names of a table, and what else there is, for an error message.

    Examples
    --------
    >>> allowed({"whiten": 1, "batch": 2})
    "one of 'batch', 'whiten'"
    """
    names = "one of " + ", ".join(repr(name) for name in sorted(table))
    return f"{names}, or {also}" if also else names


def unknown_option(value: str, table: Mapping[str, Any], parameter: str, also: str = "") -> str:
    """Say that a name is unknown, what is allowed, and what may have been meant.

    Examples
    --------
    >>> unknown_option("whitne", {"whiten": 1, "batch": 2}, "normalization")
    "normalization='whitne' is unknown; it takes one of 'batch', 'whiten'. Did you mean 'whiten'?"
    """
    message = f"{parameter}={value!r} is unknown; it takes {allowed(table, also)}."
    close = difflib.get_close_matches(value.lower(), table, n=1)
    return f"{message} Did you mean {close[0]!r}?" if close else message
