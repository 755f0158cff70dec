"""Permutation tests of rows against draws of the reference: exact for every law, n and d."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from .._context import own_context
from .._validation import check_integer
from ._distances import MAX_PAIRWISE_ROWS, N_WIDTHS, gaussian_kernels
from ._reference import FloatArray, RandomState, Space, compare, generator, subsample
from ._results import JointTest

#: Draws of the target per row, as far as MAX_PAIRWISE_ROWS allows: draws cost little,
#: and the noise of the reference takes power.
DRAWS_PER_ROW = 4


@own_context()
def energy_test(
    Z: Any,
    reference: Any = "normal",
    *,
    n_permutations: int = 199,
    space: Space = "normal",
    random_state: RandomState = None,
) -> JointTest:
    r"""Energy test that rows and reference have the same joint law.

    .. math:: T = \frac{n m}{n + m} \bigl( 2\, E|Z - Y| - E|Z - Z'| - E|Y - Y'| \bigr)

    with Z, Z' of the n rows, Y, Y' of m draws of the reference, :math:`|\cdot|` the Euclidean norm,
    and each mean taken over all pairs. The p-value is that of B random permutations of the n + m
    rows, :math:`(1 + \#\{T_b \ge T\}) / (1 + B)`: exact for every n, d and law.

    Above 2,000 rows, 2,000 drawn at random are used; m = min(4 n, 2000) for a target, and at most
    2,000 rows of a reference sample. So the largest array is (4000, 4000) float64, 128 MB, and
    two of them exist at most.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform", target or array-like of shape (m, d), default="normal"
        Law that the rows should follow, or a sample of it.
    n_permutations : int, default=199
        Number B of permutations; the least p-value is 1 / (1 + B).
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is.
    random_state : int, Generator, RandomState or None, default=None
        Draws of the reference, of rows above 2,000, and the permutations.

    Returns
    -------
    result : JointTest

    Raises
    ------
    ValueError
        If an array is not finite or the shapes do not fit.

    See Also
    --------
    energy_distance : The distance behind it.
    mmd_test : Sees finer structure.

    Notes
    -----
    Sees the mean, scales and correlation. Weak against what leaves them as they are, and blind
    to fine structure.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 0.20 / 0.05, turned squares made normal 0.17 /
    0.05, correlation 0.2 0.66 / 0.99, a lattice of four values 0.48 / 0.09, rounding to 0.25 0.04 /
    0.04.

    References
    ----------
    G. Szekely, M. Rizzo, *Energy statistics: A class of statistics based on distances*,
    J. Stat. Plan. Inference 143, 2013, section 6.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import energy_test
    >>> Z = np.random.default_rng(0).standard_normal((300, 3))
    >>> energy_test(Z, "normal", random_state=0).pvalue > 0.05
    True
    >>> energy_test(Z + 0.5, "normal", random_state=0).pvalue
    0.005
    """
    rows, draws, rng = _samples(Z, reference, n_permutations, space, random_state)
    pooled = np.concatenate([rows, draws])
    similarity = cdist(pooled, pooled)
    np.negative(similarity, out=similarity)
    member = _splits(len(pooled), len(rows), n_permutations, rng)
    n, m = len(rows), len(draws)
    return _rank(n * m / (n + m) * _discrepancy(similarity, member))


@own_context()
def mmd_test(
    Z: Any,
    reference: Any = "normal",
    *,
    n_permutations: int = 199,
    space: Space = "normal",
    random_state: RandomState = None,
) -> JointTest:
    r"""Kernel test (MMD) that rows and reference have the same joint law.

    .. math::
        T = \max_c \frac{M_c - \mu_c}{\sigma_c}, \qquad
        M_c = E k_c(Z, Z') + E k_c(Y, Y') - 2\, E k_c(Z, Y)

    with Z, Z' of the n rows, Y, Y' of m draws of the reference, each mean taken over all pairs,
    :math:`k_c(a, b) = \exp(-|a - b|^2 / (2 (c s)^2))` for c = 1, 1/2, 1/4 and 1/8, and s the median
    distance between pooled rows. :math:`\mu_c` and :math:`\sigma_c` are the mean and the standard
    deviation of :math:`M_c` over the rows as they are and B random permutations of all n + m, and
    the p-value is that of the same permutations, :math:`(1 + \#\{T_b \ge T\}) / (1 + B)`: exact
    for every n, d and law.

    Above 2,000 rows, 2,000 drawn at random are used; m = min(4 n, 2000) for a target, and at most
    2,000 rows of a reference sample. So the largest array is (4000, 4000) float64, 128 MB, and
    two of them exist at most.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform", target or array-like of shape (m, d), default="normal"
        Law that the rows should follow, or a sample of it.
    n_permutations : int, default=199
        Number B of permutations; the least p-value is 1 / (1 + B).
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is.
    random_state : int, Generator, RandomState or None, default=None
        Draws of the reference, of rows above 2,000, and the permutations.

    Returns
    -------
    result : JointTest

    Raises
    ------
    ValueError
        If an array is not finite or the shapes do not fit.

    See Also
    --------
    mmd_distance : The distance behind it.
    classifier_auc : Learns where to look.

    Notes
    -----
    Blind to structure that is fine compared with the distance between neighbours.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are: two normals along the diagonal 1.00 / 0.45, turned squares made normal 1.00 /
    0.96, correlation 0.2 0.96 / 1.00, a lattice of four values 1.00 / 1.00, rounding to 0.25 0.00 /
    0.04.

    References
    ----------
    A. Gretton, K. Borgwardt, M. Rasch, B. Schoelkopf, A. Smola, *A Kernel Two-Sample Test*,
    JMLR 13, 2012, sections 2 and 8.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import mmd_test
    >>> Z = np.random.default_rng(0).standard_normal((300, 3))
    >>> mmd_test(Z, "normal", random_state=0).pvalue > 0.05
    True
    >>> mmd_test(Z + 0.5, "normal", random_state=0).pvalue
    0.005
    """
    rows, draws, rng = _samples(Z, reference, n_permutations, space, random_state)
    pooled = np.concatenate([rows, draws])
    distances = cdist(pooled, pooled)
    # Of pooled rows drawn at random: a width that knew which are which would break exactness.
    median = float(np.median(distances[rng.choice(len(pooled), min(len(pooled), 100))]))
    member = _splits(len(pooled), len(rows), n_permutations, rng)
    scores = [
        _standardise(_discrepancy(kernel, member))
        for kernel in gaussian_kernels(distances, median if median > 0.0 else 1.0, N_WIDTHS)
    ]
    return _rank(np.max(scores, axis=0))


def _samples(
    Z: Any, reference: Any, n_permutations: int, space: Space, random_state: RandomState
) -> tuple[FloatArray, FloatArray, np.random.Generator]:
    check_integer(n_permutations, "n_permutations", minimum=1)
    rng = generator(random_state)
    pair = compare(Z, reference, space=space)
    rows = subsample(pair.Z, MAX_PAIRWISE_ROWS, rng)
    n_draws = MAX_PAIRWISE_ROWS
    if pair.n_available is None:
        n_draws = min(DRAWS_PER_ROW * len(rows), MAX_PAIRWISE_ROWS)
    return rows, pair.draw(n_draws, rng), rng


def _splits(size: int, n: int, n_permutations: int, rng: np.random.Generator) -> FloatArray:
    """Mark n of all rows in each column: the first n in column 0, n at random in the others."""
    member = np.zeros((size, 1 + n_permutations))
    member[:n, 0] = 1.0
    for column in range(1, 1 + n_permutations):
        member[rng.permutation(size)[:n], column] = 1.0
    return member


def _discrepancy(similarity: FloatArray, member: FloatArray) -> FloatArray:
    """Return, for each split, how much more alike rows are within its parts than across."""
    size = len(similarity)
    n = int(member[:, 0].sum())
    m = size - n
    to_all = similarity.sum(axis=1)
    inside = np.einsum("ij,ij->j", member, similarity @ member)
    across = to_all @ member - inside
    outside = to_all.sum() - 2.0 * across - inside
    discrepancy: FloatArray = inside / n**2 + outside / m**2 - 2.0 * across / (n * m)
    return discrepancy


def _standardise(statistic: FloatArray) -> FloatArray:
    spread = statistic.std()
    return (statistic - statistic.mean()) / spread if spread > 0.0 else np.zeros_like(statistic)


def _rank(statistic: FloatArray) -> JointTest:
    # A permutation that gives the same split as the rows must count, whatever the rounding.
    reached = statistic[1:] >= statistic[0] - 1e-10 * np.abs(statistic).max()
    return JointTest(float(statistic[0]), (1 + int(reached.sum())) / len(statistic))
