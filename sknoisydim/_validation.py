"""Checks of scalar parameters: each says what came and what is allowed."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np


def check_integer(
    value: Any, name: str, *, minimum: int, maximum: int | None = None, also: str = ""
) -> int:
    """Return `value` as an int >= `minimum`, and at most `maximum` if there is one.

    `also` is what the parameter takes besides, such as "'auto'"; only messages show it.

    Raises
    ------
    TypeError
        If `value` is not an integer (booleans are not).
    ValueError
        If it is smaller than `minimum`, or larger than `maximum`.
    """
    kind = f"{also} or an integer" if also else "an integer"
    allowed = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be {kind} {allowed}, got {value!r}.")
    checked = int(value)
    if checked < minimum or (maximum is not None and checked > maximum):
        raise ValueError(f"{name} must be {kind} {allowed}, got {value!r}.")
    return checked


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
