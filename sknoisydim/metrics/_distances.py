"""Distances between a sample and a reference; zero for equal laws and infinite samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist, pdist

from .._context import own_context
from .._validation import check_integer
from ._reference import FloatArray, RandomState, Space, compare, generator, subsample

#: Rows of each sample that a pairwise method looks at, at most. Its largest array is then
#: (4,000, 4,000) float64, 128 MB.
MAX_PAIRWISE_ROWS = 2_000

#: Widths of Gaussian kernels: the median distance, its half, its quarter and its eighth.
N_WIDTHS = 4


@own_context()
def sliced_wasserstein(
    Z: Any,
    reference: Any = "normal",
    *,
    n_projections: int = 200,
    space: Space = "normal",
    random_state: RandomState = None,
) -> float:
    r"""Sliced 2-Wasserstein distance between rows and a sample of the reference.

    .. math:: SW_2 = \Bigl( \frac{1}{K} \sum_{k=1}^{K} W_2^2(u_k^T Z, u_k^T Y) \Bigr)^{1/2}

    with :math:`u_k` uniform on the unit sphere of :math:`R^d`, K directions, Y as many
    draws of the target as rows (or the whole reference sample) and :math:`W_2` the
    2-Wasserstein distance on the line, in the units of Z.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform", target or array-like of shape (m, d), default="normal"
        Law that the rows should follow, or a sample of it.
    n_projections : int, default=200
        Number K of directions.
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is. A reference
        sample is always compared as it is.
    random_state : int, Generator, RandomState or None, default=None
        Draws of the reference and of the directions.

    Returns
    -------
    distance : float
        Not zero at finite n even for a perfect match: see :func:`in_floors`.

    Raises
    ------
    ImportError
        If the reference is a sample of another size than Z and POT, of the extra
        ``sknoisydim[metrics]``, is not installed.
    ValueError
        If an array is not finite or the shapes do not fit.

    See Also
    --------
    in_floors : The same distance over what sampling alone leaves.
    classifier_auc : Sees joint laws that no projection shows.

    Notes
    -----
    Sees the mean, scales and correlation. Nearly blind to the rest of the joint law in 8 and more
    dimensions, where projections of almost anything look normal.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are and takes the threshold from samples of the target: two normals along the
    diagonal 0.19 / 0.05, turned squares made normal 0.16 / 0.03, correlation 0.2 0.81 / 0.99, a
    lattice of four values 0.80 / 0.10, rounding to 0.25 0.14 / 0.07.

    References
    ----------
    N. Bonneel, J. Rabin, G. Peyre, H. Pfister, *Sliced and Radon Wasserstein Barycenters of
    Measures*, J. Math. Imaging Vis. 51, 2015, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import sliced_wasserstein
    >>> Z = np.random.default_rng(0).standard_normal((1000, 4))
    >>> near = sliced_wasserstein(Z, "normal", random_state=0)
    >>> far = sliced_wasserstein(Z + 1.0, "normal", random_state=0)
    >>> bool(near < 0.1 < 0.9 < far)
    True
    """
    check_integer(n_projections, "n_projections", minimum=1)
    rng = generator(random_state)
    pair = compare(Z, reference, space=space)
    directions = rng.standard_normal((pair.Z.shape[1], n_projections))
    directions /= np.linalg.norm(directions, axis=0)
    draws = pair.counterpart(rng)
    if len(draws) != len(pair.Z):
        return _unequal_sliced_wasserstein(pair.Z, draws, directions)
    # Samples of equal size are matched in order along each direction; POT's general
    # solver gives the same number ten times slower.
    gap = np.sort(directions.T @ pair.Z.T, axis=1) - np.sort(directions.T @ draws.T, axis=1)
    return float(np.sqrt(np.square(gap).mean()))


@own_context()
def energy_distance(
    Z: Any,
    reference: Any = "normal",
    *,
    space: Space = "normal",
    random_state: RandomState = None,
) -> float:
    r"""Energy distance between rows and a sample of the reference.

    .. math:: E = \bigl( 2\, E|Z - Y| - E|Z - Z'| - E|Y - Y'| \bigr)^{1/2}

    with Z, Z' rows, Y, Y' as many draws of the target (or the reference sample), :math:`|\cdot|`
    the Euclidean norm, and each mean taken over all pairs (a V-statistic, never negative). Above
    2,000 rows, 2,000 drawn at random are used on each side.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform", target or array-like of shape (m, d), default="normal"
        Law that the rows should follow, or a sample of it.
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is.
    random_state : int, Generator, RandomState or None, default=None
        Draws of the reference, and of rows above 2,000.

    Returns
    -------
    distance : float
        In the units of the square root of a distance, as `scipy.stats.energy_distance` for d = 1.

    Raises
    ------
    ValueError
        If an array is not finite or the shapes do not fit.

    See Also
    --------
    energy_test : The p-value that belongs to it.
    in_floors : The same distance over what sampling alone leaves.

    Notes
    -----
    Sees the mean, scales and correlation; nearly blind to what leaves them as they are.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are and takes the threshold from samples of the target: two normals along the
    diagonal 0.24 / 0.10, turned squares made normal 0.19 / 0.08, correlation 0.2 0.48 / 0.87, a
    lattice of four values 0.35 / 0.13, rounding to 0.25 0.12 / 0.10.

    References
    ----------
    G. Szekely, M. Rizzo, *Energy statistics: A class of statistics based on distances*,
    J. Stat. Plan. Inference 143, 2013, equation 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import energy_distance
    >>> Z = np.random.default_rng(0).standard_normal((500, 3))
    >>> near = energy_distance(Z, "normal", random_state=0)
    >>> bool(near < energy_distance(2 * Z, "normal", random_state=0))
    True
    """
    A, B = _pairwise_samples(Z, reference, space, random_state)
    return _root(2.0 * cdist(A, B).mean() - _mean_within(A) - _mean_within(B))


@own_context()
def mmd_distance(
    Z: Any,
    reference: Any = "normal",
    *,
    space: Space = "normal",
    random_state: RandomState = None,
) -> float:
    r"""Maximum mean discrepancy between rows and a sample of the reference.

    .. math:: MMD = \bigl( E k(Z, Z') + E k(Y, Y') - 2\, E k(Z, Y) \bigr)^{1/2}

    with :math:`k(a, b)` the mean of :math:`\exp(-|a - b|^2 / (2 (c m)^2))` over c = 1, 1/2, 1/4
    and 1/8, Z, Z' rows, Y, Y' as many draws of the target (or the reference sample), m the median
    distance between them, and each mean taken over all pairs (a V-statistic, never
    negative). Above 2,000 rows, 2,000 drawn at random are used on each side.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform", target or array-like of shape (m, d), default="normal"
        Law that the rows should follow, or a sample of it.
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is.
    random_state : int, Generator, RandomState or None, default=None
        Draws of the reference, and of rows above 2,000.

    Returns
    -------
    distance : float
        Between 0 and the square root of 2; no unit.

    Raises
    ------
    ValueError
        If an array is not finite or the shapes do not fit.

    See Also
    --------
    mmd_test : The p-value that belongs to it.
    in_floors : The same distance over what sampling alone leaves.

    Notes
    -----
    Blind to structure that is fine compared with the distance between neighbours.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are and takes the threshold from samples of the target: two normals along the
    diagonal 0.62 / 0.11, turned squares made normal 0.78 / 0.18, correlation 0.2 0.80 / 1.00, a
    lattice of four values 1.00 / 0.54, rounding to 0.25 0.10 / 0.09.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schoelkopf, A. Smola, *A Kernel Two-Sample Test*,
    JMLR 13, 2012, equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import mmd_distance
    >>> Z = np.random.default_rng(0).standard_normal((500, 3))
    >>> near = mmd_distance(Z, "normal", random_state=0)
    >>> bool(near < mmd_distance(2 * Z, "normal", random_state=0))
    True
    """
    A, B = _pairwise_samples(Z, reference, space, random_state)
    scale = _median_distance(B)
    return _root(
        _mean_kernel(A, A, scale) + _mean_kernel(B, B, scale) - 2.0 * _mean_kernel(A, B, scale)
    )


def _mean_kernel(A: FloatArray, B: FloatArray, scale: float) -> float:
    kernels = gaussian_kernels(cdist(A, B), scale, N_WIDTHS)
    return float(np.mean([kernel.mean() for kernel in kernels]))


def _median_distance(Y: FloatArray) -> float:
    """Return the median distance between different rows, which sets the width of a kernel."""
    # 500 rows give 124,750 distances: the median is then exact to less than a percent.
    median = float(np.median(pdist(Y[:500])))
    return median if median > 0.0 else 1.0


def gaussian_kernels(distances: FloatArray, scale: float, n_widths: int) -> Iterator[FloatArray]:
    """Yield Gaussian kernels of the widths scale, scale / 2, scale / 4 ... in place of `distances`.

    The array that is yielded changes when the next one is asked for.
    """
    kernel = np.square(distances, out=distances)
    kernel *= -0.5 / scale**2
    np.exp(kernel, out=kernel)
    yield kernel
    for _ in range(n_widths - 1):
        # Half the width is the fourth power, which is cheaper than another exponential.
        np.square(kernel, out=kernel)
        np.square(kernel, out=kernel)
        yield kernel


def _pairwise_samples(
    Z: Any, reference: Any, space: Space, random_state: RandomState
) -> tuple[FloatArray, FloatArray]:
    rng = generator(random_state)
    pair = compare(Z, reference, space=space)
    rows = subsample(pair.Z, MAX_PAIRWISE_ROWS, rng)
    return rows, pair.counterpart(rng, MAX_PAIRWISE_ROWS)


def _mean_within(A: FloatArray) -> float:
    return float(2.0 * pdist(A).sum() / len(A) ** 2)


def _root(squared: float) -> float:
    # Rounding can leave a V-statistic at -1e-17.
    return float(np.sqrt(max(squared, 0.0)))


def _unequal_sliced_wasserstein(A: FloatArray, B: FloatArray, directions: FloatArray) -> float:
    try:
        import ot
    except ImportError as error:
        raise ImportError(
            f"sliced_wasserstein between samples of different sizes ({len(A)} and {len(B)} rows) "
            "needs POT (the module 'ot'); install it with "
            'pip install "sknoisydim[metrics]", or pass samples of one size.'
        ) from error
    return float(ot.sliced_wasserstein_distance(A, B, projections=directions, p=2))
