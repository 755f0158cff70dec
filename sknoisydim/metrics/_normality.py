"""Classical tests of joint normality, with mean and covariance estimated from the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.spatial.distance import pdist
from scipy.special import chdtrc, ndtr, ndtri

from .._context import own_context
from ._distances import MAX_PAIRWISE_ROWS
from ._reference import (
    FloatArray,
    RandomState,
    constant_columns,
    generator,
    normal_preimage,
    subsample,
)
from ._results import JointTest

# Below these, the asymptotic laws are off: with n = 50 and d = 16 the variance of the
# Henze-Zirkler statistic is a third of the asymptotic one.
ENOUGH_ROWS = 500
ENOUGH_ROWS_PER_COMPONENT = 20

# Rows of Mardia's third moments that are expanded to d^2 columns at once, in numbers.
_CHUNK = 2_000_000

N_RESAMPLES = 199


@own_context()
def henze_zirkler(
    Z: Any, reference: Any = "normal", *, random_state: RandomState = None
) -> JointTest:
    r"""Henze-Zirkler test of joint normality, with any mean and covariance.

    .. math:: HZ = n \int |\hat\varphi(t) - e^{-|t|^2 / 2}|^2 \, N(t; 0, \beta^2 I) \, dt

    with :math:`\hat\varphi` the characteristic function of the n rows after whitening by their own
    mean and covariance, and :math:`\beta = ((2d + 1) n / 4)^{1 / (d + 4)} / \sqrt 2`.

    The p-value comes from the log-normal law with the asymptotic mean and variance; with fewer than
    max(500, 20 d) rows from 199 normal samples of the same size (then the least is 0.005). Above
    2,000 rows, 2,000 drawn at random are used.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge, n > d.
    reference : "normal", "uniform" or target, default="normal"
        Its N(0, I) pre-image is tested.
    random_state : int, Generator, RandomState or None, default=None
        Rows above 2,000, and the normal samples.

    Returns
    -------
    result : JointTest
        A covariance without full rank gives the statistic 4 n and the p-value 0.

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite or has no more rows than columns.

    See Also
    --------
    energy_test : Sees mean and covariance too.

    Notes
    -----
    Blind to the mean, to scales and to correlation, which it estimates and takes out.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 1.00 / 0.90, turned squares made normal 1.00 /
    1.00, correlation 0.2 0.04 / 0.05, a lattice of four values 1.00 / 1.00, rounding to 0.25 0.02 /
    0.07.

    References
    ----------
    N. Henze, B. Zirkler, *A class of invariant consistent tests for multivariate normality*,
    Commun. Stat. Theory Methods 19, 1990, theorem 3.1 and section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import henze_zirkler
    >>> Z = np.random.default_rng(0).standard_normal((600, 3))
    >>> henze_zirkler(Z).pvalue > 0.05
    True
    >>> henze_zirkler(np.abs(Z)).pvalue < 0.001
    True
    """
    rng = generator(random_state)
    rows = subsample(_rows(Z, reference, "henze_zirkler"), MAX_PAIRWISE_ROWS, rng)
    white = _whiten(rows)
    if white is None:
        return JointTest(4.0 * len(rows), 0.0)
    statistic = _hz_statistic(white)
    pvalue = _pvalue(statistic, rows.shape, _hz_statistic, _hz_survival, rng)
    return JointTest(statistic, pvalue)


@own_context()
def mardia(Z: Any, reference: Any = "normal", *, random_state: RandomState = None) -> JointTest:
    r"""Mardia's test of joint skewness and kurtosis, with any mean and covariance.

    .. math::
        b_1 = \frac{1}{n^2} \sum_{i,j} (w_i^T w_j)^3, \qquad
        b_2 = \frac{1}{n} \sum_i |w_i|^4

    with :math:`w_i` the n rows after whitening by their own mean and covariance. Each moment is
    brought to a standard normal score: skewness by its :math:`\chi^2` law of
    d (d + 1) (d + 2) / 6 degrees of freedom with Mardia's correction for small n, kurtosis,
    two-sided, by its exact mean and variance. The statistic is the larger score; as both
    are asymptotically independent, its p-value is :math:`1 - \Phi(s)^2`. With fewer than
    max(500, 20 d) rows the p-value comes from 199 normal samples of the same size (then the
    least is 0.005).

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge, n > d.
    reference : "normal", "uniform" or target, default="normal"
        Its N(0, I) pre-image is tested.
    random_state : int, Generator, RandomState or None, default=None
        The normal samples; without effect for larger n.

    Returns
    -------
    result : JointTest
        A covariance without full rank gives an infinite statistic and the p-value 0.

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite or has no more rows than columns.

    See Also
    --------
    henze_zirkler : Sees every law that is not normal, when n is large.

    Notes
    -----
    Blind to the mean, to scales and to correlation, and to each law with the third and fourth
    moments of a normal one.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 0.53 / 0.12, turned squares made normal 0.99 /
    1.00, correlation 0.2 0.05 / 0.04, a lattice of four values 1.00 / 1.00, rounding to 0.25 0.04 /
    0.06.

    References
    ----------
    K. V. Mardia, *Applications of some measures of multivariate skewness and kurtosis in testing
    normality and robustness studies*, Sankhya B 36, 1974, sections 2 to 5.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import mardia
    >>> Z = np.random.default_rng(0).standard_normal((600, 3))
    >>> mardia(Z).pvalue > 0.05
    True
    >>> mardia(np.abs(Z)).pvalue < 0.001
    True
    """
    rng = generator(random_state)
    rows = _rows(Z, reference, "mardia")
    white = _whiten(rows)
    if white is None:
        return JointTest(float("inf"), 0.0)
    statistic = _mardia_statistic(white)
    pvalue = _pvalue(statistic, rows.shape, _mardia_statistic, _mardia_survival, rng)
    return JointTest(statistic, pvalue)


def _rows(Z: Any, reference: Any, test: str) -> FloatArray:
    rows = normal_preimage(Z, reference, min_samples=2, test=test)
    n, d = rows.shape
    if n <= d:
        raise ValueError(f"{test} needs more rows than columns, got {n} rows and {d} columns.")
    return rows


def _whiten(Z: FloatArray) -> FloatArray | None:
    """Return rows of mean 0 and covariance I, or None when the covariance has no full rank."""
    if constant_columns(Z).any():
        return None
    # Scaled first, so that a small component does not look like a missing rank.
    centred = Z - Z.mean(axis=0)
    centred /= np.sqrt(np.square(centred).mean(axis=0))
    covariance = centred.T @ centred / len(Z)
    if np.linalg.eigvalsh(covariance)[0] < 1e-10:
        return None
    white: FloatArray = solve_triangular(np.linalg.cholesky(covariance), centred.T, lower=True).T
    return np.ascontiguousarray(white)


def _pvalue(
    statistic: float,
    shape: tuple[int, ...],
    measure: Callable[[FloatArray], float],
    survival: Callable[[float, int, int], float],
    rng: np.random.Generator,
) -> float:
    n, d = shape
    if n >= max(ENOUGH_ROWS, ENOUGH_ROWS_PER_COMPONENT * d):
        return survival(statistic, n, d)
    reached = 0
    for _ in range(N_RESAMPLES):
        white = _whiten(rng.standard_normal((n, d)))
        reached += white is None or measure(white) >= statistic
    return (1 + reached) / (1 + N_RESAMPLES)


def _hz_beta_squared(n: int, d: int) -> float:
    return float(0.5 * ((2 * d + 1) * n / 4) ** (2 / (d + 4)))


def _hz_statistic(white: FloatArray) -> float:
    n, d = white.shape
    b = _hz_beta_squared(n, d)
    pairs = 1.0 + 2.0 * np.exp(-0.5 * b * pdist(white, "sqeuclidean")).sum() / n
    own = np.exp(-0.5 * b / (1 + b) * np.square(white).sum(axis=1)).sum()
    return float(pairs - 2 * (1 + b) ** (-d / 2) * own + n * (1 + 2 * b) ** (-d / 2))


def _hz_survival(statistic: float, n: int, d: int) -> float:
    b = _hz_beta_squared(n, d)
    a = 1 + 2 * b
    w = (1 + b) * (1 + 3 * b)
    mean = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    variance = (
        2 * (1 + 4 * b) ** (-d / 2)
        + 2 * a**-d * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    )
    spread = np.log1p(variance / mean**2)
    if statistic <= 0.0:
        return 1.0
    return float(ndtr((np.log(mean) - 0.5 * spread - np.log(statistic)) / np.sqrt(spread)))


def _mardia_statistic(white: FloatArray) -> float:
    n, d = white.shape
    third = np.zeros((d, d * d))
    step = max(1, _CHUNK // d**2)
    for start in range(0, n, step):
        rows = white[start : start + step]
        third += rows.T @ (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), d * d)
    skewness = np.square(third / n).sum()
    kurtosis = np.square(np.square(white).sum(axis=1)).mean()
    correction = (d + 1) * (n + 1) * (n + 3) / (n * ((n + 1) * (d + 1) - 6))
    skewness_pvalue = chdtrc(d * (d + 1) * (d + 2) / 6, n * correction * skewness / 6)
    mean = d * (d + 2) * (n - 1) / (n + 1)
    factor = (n - 3) * (n - d - 1) * (n - d + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    # With n <= d + 1 or n <= 3 the kurtosis is a constant, and says nothing.
    score = abs(kurtosis - mean) / np.sqrt(8 * d * (d + 2) * factor) if factor > 0 else 0.0
    kurtosis_pvalue = 2 * ndtr(-score)
    # -ndtri(p) is infinite for a p-value of 0, and 37.5 is the largest finite score.
    return float(min(-ndtri(max(min(skewness_pvalue, kurtosis_pvalue), 0.0)), 37.5))


def _mardia_survival(statistic: float, n: int, d: int) -> float:
    tail = ndtr(-statistic)
    return float(tail * (2.0 - tail))
