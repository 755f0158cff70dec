"""The Epps-Pulley test over many directions, against the fully specified N(0, I)."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import gammaincc

from .._context import own_context
from .._validation import check_integer
from ._reference import FloatArray, RandomState, generator, normal_preimage
from ._results import JointTest

# Rows whose cosines and sines are held at once.
_CHUNK_ROWS = 2_048


@own_context()
def epps_pulley_sliced(
    Z: Any,
    reference: Any = "normal",
    *,
    n_projections: int = 64,
    random_state: RandomState = None,
) -> JointTest:
    r"""Sliced Epps-Pulley test of projections of the rows against N(0, 1).

    .. math::
        T = \frac{1}{K} \sum_{k=1}^{K} n \int
        \Bigl| \frac{1}{n} \sum_{j=1}^{n} e^{i t u_k^T z_j} - e^{-t^2 / 2} \Bigr|^2
        N(t; 0, 1) \, dt

    with :math:`z_j` the n rows and :math:`u_k` uniform on the unit sphere, K of them. The integral
    is Gauss-Hermite with 16 nodes. Nothing is estimated, so T is a quadratic form of means
    whose covariance under N(0, I) is known; the p-value is that of a gamma law with its
    first three cumulants. No simulation, and O(n K) time.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform" or target, default="normal"
        Its N(0, I) pre-image is tested.
    n_projections : int, default=64
        Number K of directions.
    random_state : int, Generator, RandomState or None, default=None
        Draws of the directions.

    Returns
    -------
    result : JointTest

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite.

    See Also
    --------
    energy_test : Looks at distances in all d dimensions.

    Notes
    -----
    Sees the mean, scales and correlation. Blind to what projections do not show: in 8 and more
    dimensions projections of almost anything look normal.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 0.31 / 0.03, turned squares made normal 0.51 /
    0.09, correlation 0.2 1.00 / 1.00, a lattice of four values 0.87 / 0.26, rounding to 0.25 0.06 /
    0.05.

    References
    ----------
    T. Epps, L. Pulley, *A test for normality based on the empirical characteristic function*,
    Biometrika 70, 1983, section 2. P. Hall, *Chi squared approximations to the distribution of a
    sum of independent random variables*, Ann. Probab. 11, 1983, for the gamma law.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import epps_pulley_sliced
    >>> Z = np.random.default_rng(1).standard_normal((500, 3))
    >>> epps_pulley_sliced(Z, random_state=0).pvalue > 0.05
    True
    >>> epps_pulley_sliced(1.3 * Z, random_state=0).pvalue < 0.001
    True
    """
    check_integer(n_projections, "n_projections", minimum=1)
    rows = normal_preimage(Z, reference, min_samples=2, test="epps_pulley_sliced")
    directions = generator(random_state).standard_normal((rows.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    nodes, weights = _half_hermite()
    weight = np.tile(weights, n_projections) / n_projections
    cosine, sine = _mean_features(rows, directions, nodes)
    expected = np.tile(np.exp(-0.5 * nodes**2), n_projections)
    statistic = len(rows) * float(weight @ (np.square(cosine - expected) + np.square(sine)))
    return JointTest(statistic, _survival(statistic, directions, nodes, weight))


def _half_hermite() -> tuple[FloatArray, FloatArray]:
    """Return nodes t > 0 and weights for the mean of an even function over N(0, 1)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(16)
    positive = nodes > 0
    return nodes[positive], 2.0 * weights[positive] / np.sqrt(2.0 * np.pi)


def _mean_features(
    rows: FloatArray, directions: FloatArray, nodes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the means of cos(t u^T z) and sin(t u^T z), nodes running fastest."""
    cosine = np.zeros(directions.shape[1] * len(nodes))
    sine = np.zeros_like(cosine)
    for start in range(0, len(rows), _CHUNK_ROWS):
        projected = rows[start : start + _CHUNK_ROWS] @ directions
        angle = (projected[:, :, None] * nodes).reshape(len(projected), -1)
        cosine += np.cos(angle).sum(axis=0)
        sine += np.sin(angle).sum(axis=0)
    return cosine / len(rows), sine / len(rows)


def _survival(
    statistic: float, directions: FloatArray, nodes: FloatArray, weight: FloatArray
) -> float:
    """Return the chance of a larger statistic under N(0, I).

    cos(a^T z) and cos(b^T z) have the covariance (e^{-|a-b|^2/2} + e^{-|a+b|^2/2}) / 2 -
    e^{-(|a|^2+|b|^2)/2}, the sines (e^{-|a-b|^2/2} - e^{-|a+b|^2/2}) / 2, and cosines with sines 0.
    """
    a = (directions[:, :, None] * nodes).reshape(len(directions), -1)
    product = a.T @ a
    half = 0.5 * np.diag(product)
    both = np.exp(-half[:, None] - half)
    scale = np.sqrt(weight[:, None] * weight)
    cosines = scale * both * (np.cosh(product) - 1.0)
    sines = scale * both * np.sinh(product)
    cumulant = np.zeros(3)
    for covariance in (cosines, sines):
        eigenvalues = np.linalg.eigvalsh(covariance)
        cumulant += [(eigenvalues**power).sum() for power in (1, 2, 3)]
    mean, variance, third = cumulant * [1.0, 2.0, 8.0]
    shape = 4.0 * variance**3 / third**2
    standard = (statistic - mean) / np.sqrt(variance)
    return float(gammaincc(shape, max(shape + standard * np.sqrt(shape), 0.0)))
