"""Checks of scalar parameters: each says what came and what is allowed."""

from __future__ import annotations

import math
import numbers
from typing import Any

from sklearn.utils import check_scalar


def check_integer(value: Any, name: str, *, minimum: int) -> int:
    """Return `value` as an int >= `minimum`.

    Raises
    ------
    TypeError
        If `value` is not an integer (booleans are not).
    ValueError
        If it is smaller than `minimum`.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer >= {minimum}, got {value!r}.")
    return int(check_scalar(value, name, numbers.Integral, min_val=minimum))


def check_real(
    value: Any,
    name: str,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    closed: str = "both",
) -> float:
    """Return `value` as a finite float within the bounds.

    `closed` is one of "both", "left", "right" and "neither", as in
    `sklearn.utils.check_scalar`.

    Raises
    ------
    TypeError
        If `value` is not a real number (booleans are not).
    ValueError
        If it is not finite or outside the bounds.
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    check_scalar(
        value, name, numbers.Real, min_val=minimum, max_val=maximum, include_boundaries=closed
    )
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return float(value)
