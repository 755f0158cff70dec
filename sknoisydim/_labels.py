"""Labels for supervision: class codes, and which rows have none."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

UNLABELLED = -1


def encode_labels(X: np.ndarray, y: Any) -> np.ndarray:
    """Return the class code of each row.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Rows.
    y : array-like of shape (n,)
        Integer or string classes; -1, or None among strings, means unlabelled, as in
        `sklearn.semi_supervised`.

    Returns
    -------
    codes : ndarray of int of shape (n,)
        From 0 to the number of classes - 1; -1 for unlabelled rows.

    Raises
    ------
    ValueError
        If y is missing, has another length, holds continuous values, or no label at all.
    """
    if y is None:
        raise ValueError(
            "supervision > 0 makes views from rows of the same class, and requires y to be "
            "passed, but the target y is None. Pass labels, or supervision=0."
        )
    y = column_or_1d(y)
    check_consistent_length(X, y)
    names = y.dtype.kind in "OUST"
    known = np.array([label is not None and label == label and label != -1 for label in y])
    if not known.any():
        raise ValueError(f"supervision > 0 needs labelled rows; all {len(y)} of y are unlabelled.")
    labels = y[known].astype(str) if names else y[known]
    kind = type_of_target(labels)
    if kind not in ("binary", "multiclass"):
        raise ValueError(f"y holds {kind} values; supervision takes integer or string classes.")
    codes = np.full(len(y), UNLABELLED)
    codes[known] = np.unique(labels, return_inverse=True)[1]
    return codes
