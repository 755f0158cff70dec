"""Labels for supervision: class codes, and which rows have none."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np
from scipy.special import entr
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

UNLABELLED = -1


def _is_missing(label: Any) -> bool:
    # NaN differs from itself, and what pandas calls NA answers neither yes nor no.
    return (
        label is None or type(label).__name__ == "NAType" or label != label or label == UNLABELLED
    )


def encode_labels(X: np.ndarray, y: Any, *, whole: bool = True) -> np.ndarray:
    """Return the class code of each row.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Rows.
    y : array-like of shape (n,)
        Integer or string classes; -1, None, NaN, NA or a masked label means unlabelled, as -1 does
        in `sklearn.semi_supervised`.
    whole : bool, default=True
        Whether these are all labels of a fit. A part of them may hold one class by chance.

    Returns
    -------
    codes : ndarray of int of shape (n,)
        From 0 to the number of classes - 1; -1 for unlabelled rows.

    Raises
    ------
    ValueError
        If y is missing, has another length, holds continuous values, or no label at all. If all
        that it holds is -1 and one class: -1 is the name of the other class then, more often than
        not.

    Warns
    -----
    UserWarning
        In place of the latter, of a part of the labels.
    """
    if y is None:
        raise ValueError(
            "supervision > 0 makes views from rows of the same class, and requires y to be "
            "passed, but the target y is None. Pass labels, or supervision=0."
        )
    if isinstance(y, (list, tuple)) and any(isinstance(label, str) for label in y):
        y = np.array(y, dtype=object)  # numpy would turn None and -1 among names into names
    if np.ma.is_masked(y):
        y = np.where(np.ma.getmaskarray(y), None, y.data)
    y = column_or_1d(getattr(y, "array", y))
    check_consistent_length(X, y)
    known = np.array([not _is_missing(label) for label in y])
    if not known.any():
        raise ValueError(f"supervision > 0 needs labelled rows; all {len(y)} of y are unlabelled.")
    labels = y[known]
    if any(isinstance(label, str) for label in labels):
        labels = labels.astype(str)
    elif labels.dtype == object:
        labels = np.array(labels.tolist())
    kind = type_of_target(labels)
    if kind not in ("binary", "multiclass"):
        raise ValueError(f"y holds {kind} values; supervision takes integer or string classes.")
    codes = np.full(len(y), UNLABELLED)
    classes, codes[known] = np.unique(labels, return_inverse=True)
    if len(classes) == 1 and any(isinstance(label, numbers.Real) and label == -1 for label in y):
        message = (
            f"y holds -1 and one class, {classes[0]}, and -1 means unlabelled. If -1 is a class, "
            "give the classes other names, such as 0 and 1; if it is none, write None or NaN for "
            "rows without a label."
        )
        if whole:
            raise ValueError(message)
        warnings.warn(message, stacklevel=3)
    return codes


def share_in_classes(codes: np.ndarray | None) -> float:
    """Return the share of rows that have a class, and another row in it."""
    if codes is None:
        return 0.0
    known = codes[codes != UNLABELLED]
    return float((np.bincount(known)[known] > 1).sum() / len(codes))


def mostly_labelled(codes: np.ndarray | None) -> bool:
    """Tell whether more than half of the rows have a class, and another row in it."""
    return share_in_classes(codes) > 0.5


def class_entropy(codes: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the entropy of the classes, in nats, among the rows that have one.

    Parameters
    ----------
    codes : ndarray of int of shape (n,)
        Class of each row, -1 for unlabelled; at least one is not.
    weights : ndarray of shape (n,), optional
        How often each row is drawn.
    """
    known = codes != UNLABELLED
    counts = np.bincount(codes[known], None if weights is None else weights[known])
    return float(entr(counts / counts.sum()).sum())
