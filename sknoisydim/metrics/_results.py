"""What tests return, and the correction for many of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._reference import FloatArray


@dataclass(frozen=True)
class MarginalTest:
    """Result of a test of each component.

    Attributes
    ----------
    statistic : ndarray of shape (d,)
        Test statistic of each component.
    pvalue : ndarray of shape (d,)
        P-value of each component on its own.
    pvalue_holm : ndarray of shape (d,)
        P-values with Holm's correction for d tests; the least of them judges all components.
    """

    statistic: FloatArray
    pvalue: FloatArray
    pvalue_holm: FloatArray


@dataclass(frozen=True)
class JointTest:
    """Result of a test of the joint law.

    Attributes
    ----------
    statistic : float
        Test statistic; larger is further from the target.
    pvalue : float
        Chance of a statistic at least as large under the target.
    """

    statistic: float
    pvalue: float


def holm(pvalue: FloatArray) -> FloatArray:
    """Correct p-values for their number.

    The k-th least of d p-values becomes the largest of (d - j + 1) p_(j) over j <= k, at most 1.

    References
    ----------
    S. Holm, *A Simple Sequentially Rejective Multiple Test Procedure*, Scand. J. Stat. 6, 1979.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(2)
    array([0.03, 0.06, 0.06])
    """
    order = np.argsort(pvalue)
    scaled = pvalue[order] * np.arange(len(pvalue), 0, -1)
    corrected = np.empty_like(pvalue)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected
