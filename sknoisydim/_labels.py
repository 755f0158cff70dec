"""What `fit` makes of y: codes of classes, or numbers, and which rows have none."""

import numbers
import warnings
from typing import Any

import numpy as np
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

UNLABELLED = -1
# Integers with more values than this, and fewer rows than the second for each, are numbers.
MANY_CLASSES, ROWS_PER_CLASS = 20, 5


def is_unknown(value: object) -> bool:
    # NaN differs from itself, and what pandas calls NA answers neither yes nor no.
    return value is None or type(value).__name__ == "NAType" or value != value


def encode_target(X: Any, y: Any, *, whole: bool = True, stacklevel: int = 3) -> np.ndarray:
    """Return the class code (n,) of each row, -1 where unlabelled, or the numbers (n, k) of y.

    Numbers have unit variance, and NaN in rows of which one is unknown. All labels -1 and one class
    are an error, as -1 may be a class; a warning where these are not the `whole` labels of a fit.
    """
    if y is None:
        raise ValueError("supervision > 0 requires y to be passed, but the target y is None.")
    if isinstance(y, (list, tuple)) and any(isinstance(label, str) for label in y):
        y = np.array(y, dtype=object)  # numpy would turn None and -1 among names into names
    if np.ma.is_masked(y):
        y = np.where(np.ma.getmaskarray(y), None, y.data)
    y = np.asarray(getattr(y, "array", y))
    if y.ndim not in (1, 2):
        raise ValueError(f"y must have the shape (n,) or (n, k), got {y.shape}.")
    check_consistent_length(X, y)
    if y.dtype.kind in "mM":
        raise TypeError(
            "y holds dates or durations; it takes classes or numbers, such as days since the first."
        )
    if y.ndim == 2 and y.shape[1] != 1:
        return _numbers(y)
    y = y.ravel()
    known = np.array([not (is_unknown(label) or label == UNLABELLED) for label in y])
    if not known.any():
        raise ValueError(f"supervision > 0 needs labelled rows; all {len(y)} of y are unlabelled.")
    labels = y[known]
    if any(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    elif labels.dtype == object:
        labels = np.array(labels.tolist())
    if labels.dtype.kind == "f" and ((labels != np.floor(labels)) | np.isinf(labels)).any():
        return _numbers(y[:, None])
    if (kind := type_of_target(labels)) not in ("binary", "multiclass"):
        raise ValueError(f"y holds {kind} values; it takes integer or string classes, or numbers.")
    classes, found = np.unique(labels, return_inverse=True)
    most = max(MANY_CLASSES, len(labels) / ROWS_PER_CLASS)
    if labels.dtype.kind in "iuf" and len(classes) > most:
        if labels.dtype.kind != "f":
            warnings.warn(
                f"y holds {len(classes)} different integers in {len(labels)} rows, which are taken "
                "for numbers: pass y.astype(float) if they are, and strings if they are classes.",
                stacklevel=stacklevel,
            )
        return _numbers(y[:, None])  # where -1 is a number like others
    codes = np.full(len(y), UNLABELLED)
    codes[known] = found
    if len(classes) == 1 and any(isinstance(label, numbers.Real) and label == -1 for label in y):
        message = (
            f"y holds -1 and one class, {classes[0]}, and -1 means unlabelled. If -1 is a class, "
            "use the names 0 and 1; if it is none, write None or NaN for rows without a label."
        )
        if whole:
            raise ValueError(message)
        warnings.warn(message, stacklevel=stacklevel)
    return codes


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return columns (n, k) of unit variance, in float32."""
    try:
        if values.dtype.kind == "O":  # None and NA beside numbers; -1 is one like others
            values = np.array([[np.nan if is_unknown(v) else v for v in row] for row in values])
        numbers_: np.ndarray = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"y of shape {values.shape} has to hold numbers, or be one column of classes: {error}"
        ) from error
    if np.isinf(numbers_).any():
        raise ValueError("y holds infinity.")
    if np.isnan(numbers_).any(1).all():
        raise ValueError(f"supervision > 0 needs labelled rows; all {len(values)} are unlabelled.")
    return standardised(numbers_)


def standardised(values: np.ndarray) -> np.ndarray:
    """Return the columns of values (n, k), with NaN where unknown, with unit variance, float32."""
    known = values[~np.isnan(values).any(1)]
    deviation = known.std(0)
    deviation[deviation == 0] = 1.0
    return ((values - known.mean(0)) / deviation).astype(np.float32)
