"""Dependence between components: what a table of perfect marginals can still hide."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import ndtri
from sklearn.neighbors import NearestNeighbors

from .._context import own_context
from .._validation import check_integer
from ._reference import (
    FloatArray,
    RandomState,
    Space,
    compare,
    constant_columns,
    generator,
    normal_preimage,
)

#: Rows whose nearest neighbours are searched, at most.
MAX_NEIGHBOR_ROWS = 10_000


@own_context()
def max_correlation(
    Z: Any,
    reference: Any = "normal",
    *,
    space: Space = "normal",
    random_state: RandomState = None,
) -> float:
    r"""Largest absolute correlation between two components.

    .. math:: \max_{i < j} \, | r_{ij}(Z) - r_{ij} |

    with :math:`r_{ij}(Z)` Pearson's correlation of components i and j, and :math:`r_{ij}` the same
    under the reference: 0 for a target in its N(0, I) pre-image, else that of a sample of it
    (as many draws as rows, or the reference sample).

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge.
    reference : "normal", "uniform", target or array-like of shape (m, d), default="normal"
        Law that the rows should follow, or a sample of it.
    space : {"normal", "target"}, default="normal"
        Where a target is compared: in its N(0, I) pre-image or as it is.
    random_state : int, Generator, RandomState or None, default=None
        Draws of the reference; without effect in the N(0, I) pre-image.

    Returns
    -------
    correlation : float
        In [0, 1] in the N(0, I) pre-image. 0.0 for d = 1. A constant component has correlation 0
        with every other.

    Raises
    ------
    ValueError
        If an array is not finite or the shapes do not fit.

    See Also
    --------
    total_correlation : Sees dependence of any form.

    Notes
    -----
    Blind to the marginals, and to every dependence that is not linear.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are and takes the threshold from samples of the target: two normals along the
    diagonal 0.02 / 0.02, turned squares made normal 0.03 / 0.03, correlation 0.2 1.00 / 1.00, a
    lattice of four values 0.05 / 0.06, rounding to 0.25 0.02 / 0.06.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import max_correlation
    >>> z = np.random.default_rng(0).standard_normal((1000, 2))
    >>> round(max_correlation(np.column_stack([z, z[:, 0] + z[:, 1]])), 1)
    0.7
    """
    pair = compare(Z, reference, space=space)
    correlation = _correlation(pair.Z)
    if not pair.is_standard_normal:
        correlation -= _correlation(pair.counterpart(generator(random_state)))
    np.fill_diagonal(correlation, 0.0)
    return float(np.abs(correlation).max())


@own_context()
def total_correlation(
    Z: Any,
    reference: Any = "normal",
    *,
    n_neighbors: int = 3,
    random_state: RandomState = None,
) -> float:
    r"""Total correlation of the components, estimated: what joint law and marginals differ by.

    .. math::
        TC = KL\Bigl( p(z) \,\Big\|\, \prod_i p(z_i) \Bigr) \approx
        -\frac12 \log \det R + \hat H(G) - \hat H(W)

    with R the correlation matrix of the normal scores of the rows (ranks, ties broken at random,
    through the quantile function of N(0, 1)), W those scores whitened by R, G a sample of N(0, I)
    treated in the same way, and :math:`\hat H` the Kozachenko-Leonenko entropy from the distance to
    the k-th neighbour. The first term is the dependence of a Gaussian copula; the
    difference is what is left of it, without the bias that both entropies share. Above 10,000
    rows, 10,000 drawn at random are used for it.

    Parameters
    ----------
    Z : array-like of shape (n, d)
        Rows to judge, n > d and n > k.
    reference : "normal", "uniform" or target, default="normal"
        Its N(0, I) pre-image is taken, which has the total correlation 0. For independent
        components it makes no difference, as monotone maps of components leave TC as it is.
    n_neighbors : int, default=3
        Number k of the neighbour.
    random_state : int, Generator, RandomState or None, default=None
        Draws of G, of ties and of rows.

    Returns
    -------
    nats : float
        Around 0 for independent components (a little less by chance), infinite if components
        determine each other linearly.

    Raises
    ------
    TypeError
        If the reference is a sample.
    ValueError
        If `Z` is not finite or has too few rows.

    See Also
    --------
    max_correlation : One pair, linear.

    Notes
    -----
    Exact on average for a Gaussian copula. Neighbours see nothing finer than their
    distance, so for another dependence it is too low, the more so with each component.

    Power at level 0.05 with n = 500 and d = 4 / 8, by ``benchmarks/metrics_power.py``, which says
    what the laws are and takes the threshold from samples of the target: two normals along the
    diagonal 0.98 / 0.20, turned squares made normal 1.00 / 0.66, correlation 0.2 0.77 / 1.00, a
    lattice of four values 0.06 / 0.03, rounding to 0.25 0.07 / 0.04.

    References
    ----------
    S. Watanabe, *Information theoretical analysis of multivariate correlation*, IBM J. Res. Dev. 4,
    1960. L. Kozachenko, N. Leonenko, *Sample Estimate of the Entropy of a Random Vector*, Probl.
    Inf. Transm. 23, 1987.

    Examples
    --------
    The total correlation of two normal components of correlation 0.8 is
    -log(1 - 0.64) / 2 = 0.51 nats:

    >>> import numpy as np
    >>> from sknoisydim.metrics import total_correlation
    >>> Z = np.random.default_rng(0).standard_normal((5000, 2)) @ [[1.0, 0.8], [0.0, 0.6]]
    >>> round(total_correlation(Z, random_state=0), 1)
    0.5
    """
    check_integer(n_neighbors, "n_neighbors", minimum=1)
    rows = normal_preimage(Z, reference, min_samples=2, test="total_correlation")
    n, d = rows.shape
    if n <= max(d, n_neighbors):
        raise ValueError(
            f"total_correlation needs more rows than columns and neighbours, got {n} rows, "
            f"{d} columns and n_neighbors={n_neighbors}."
        )
    if d == 1:
        return 0.0
    rng = generator(random_state)
    scores = _normal_scores(rows, rng)
    gaussian, white = _split_off_gaussian(scores)
    if white is None:
        return float("inf")
    _, null = _split_off_gaussian(_normal_scores(rng.standard_normal((n, d)), rng))
    if null is None:
        return gaussian
    chosen = rng.permutation(n)[:MAX_NEIGHBOR_ROWS]
    rest = _neighbor_entropy(null[chosen], n_neighbors) - _neighbor_entropy(
        white[chosen], n_neighbors
    )
    return gaussian + rest


def _normal_scores(Z: FloatArray, rng: np.random.Generator) -> FloatArray:
    n, d = Z.shape
    ranks = np.empty((n, d))
    for column in range(d):
        # Sorted by value, ties by chance: a lattice of independent components is independent.
        order = np.lexsort(np.stack([rng.random(n), Z[:, column]]))
        ranks[order, column] = np.arange(1, n + 1)
    scores: FloatArray = ndtri(ranks / (n + 1))
    return scores / scores[:, 0].std()


def _split_off_gaussian(scores: FloatArray) -> tuple[float, FloatArray | None]:
    """Return the nats of the Gaussian copula, and the scores without its correlation."""
    correlation = scores.T @ scores / len(scores)
    if np.linalg.eigvalsh(correlation)[0] < 1e-10:
        return float("inf"), None
    factor = np.linalg.cholesky(correlation)
    white = solve_triangular(factor, scores.T, lower=True).T
    return -float(np.log(np.diag(factor)).sum()), np.ascontiguousarray(white)


def _neighbor_entropy(W: FloatArray, n_neighbors: int) -> float:
    """Return the Kozachenko-Leonenko entropy up to terms that depend on n, d and k only."""
    neighbors = NearestNeighbors(n_neighbors=n_neighbors).fit(W)
    distance = neighbors.kneighbors()[0][:, -1]
    return float(W.shape[1] * np.log(np.maximum(distance, 1e-300)).mean())


def _correlation(Z: FloatArray) -> FloatArray:
    constant = constant_columns(Z)
    centred = np.where(constant, 0.0, Z - Z.mean(axis=0))
    unit = centred / np.where(constant, 1.0, np.sqrt(np.square(centred).sum(axis=0)))
    product: FloatArray = unit.T @ unit
    return product
