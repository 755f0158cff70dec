"""Dependence between components, and how alike two embeddings are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import orthogonal_procrustes
from scipy.special import ndtri
from scipy.stats import entropy
from sklearn.neighbors import NearestNeighbors

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer
from sknoisydim.metrics import _samples
from sknoisydim.metrics._samples import FloatArray, RandomState, Reference

#: Samples whose nearest neighbours are searched, at most: for the entropy, and for the dimension,
#: about which fewer distinct samples than the last number say nothing.
MAX_ENTROPY_SAMPLES, MAX_DIMENSION_SAMPLES, MIN_DIMENSION_SAMPLES = 10_000, 4_000, 20


@own_context()
def max_correlation(
    Z: ArrayLike, reference: Reference = "normal", *, random_state: RandomState = None
) -> float:
    r"""Largest absolute correlation between two components.

    .. math:: \max_{i < j} \, | r_{ij}(Z) - r_{ij} |

    with :math:`r_{ij}(Z)` Pearson's correlation of components i and j, and :math:`r_{ij}` the same
    of the reference sample, or 0 for a target in its N(0, I) pre-image. 0 for constant components.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples.
    reference : str, target or array-like of shape (m, n_components), default="normal"
        As of `energy_test`.
    random_state : int, Generator, RandomState or None, default=None
        Ignored, since nothing is drawn: all distances take one.

    Returns
    -------
    correlation : float from 0 to 1, or to 2 with a reference sample
    """
    Z, Y = _samples.compare(Z, reference)
    correlation = _samples.correlation_matrix(Z)
    if Y is not None:
        correlation -= _samples.correlation_matrix(Y)
    np.fill_diagonal(correlation, 0.0)
    return float(np.abs(correlation).max())


@own_context()
def total_correlation(
    Z: ArrayLike,
    reference: Reference = "normal",
    *,
    n_neighbors: int = 3,
    random_state: RandomState = None,
) -> float:
    r"""Estimate of the total correlation of the components, in nats.

    .. math::
        TC = KL\Bigl( p(z) \,\Big\|\, \prod_i p(z_i) \Bigr) \approx
        -\frac12 \log \det R + \hat H(G) - \hat H(W)

    with R the correlation matrix of the normal scores (quantiles of N(0, 1) at the ranks, ties
    broken at random), W those scores whitened by R, G a sample of N(0, I) treated likewise, and
    :math:`\hat H` the Kozachenko-Leonenko entropy (Probl. Inf. Transm. 23, 1987) by the k-th
    neighbour, of at most 10,000 samples. Exact on average for a Gaussian copula, else too low.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples, more than components and than `n_neighbors`.
    reference : str or target, default="normal"
        As of `energy_test`, but no sample.
    n_neighbors : int, default=3
        Number k of the neighbour.
    random_state : int, Generator, RandomState or None, default=None
        Seed of G, of the order of ties, and of which samples are used.

    Returns
    -------
    nats : float
        About 0 for independent components, infinite if some determine another linearly.

    Raises
    ------
    ValueError, TypeError
        As of `kolmogorov_smirnov`; if there are too few samples; by `n_neighbors` below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import total_correlation
    >>> Z = np.random.default_rng(0).standard_normal((5000, 2)) @ [[1.0, 0.8], [0.0, 0.6]]
    >>> round(total_correlation(Z, random_state=0), 1)
    0.5
    """
    check_integer(n_neighbors, "n_neighbors", minimum=1)
    Z = _samples.normal_preimage(Z, reference, test="total_correlation")
    n, d = Z.shape
    if n <= max(d, n_neighbors):
        raise ValueError(
            f"total_correlation needs more rows than columns and neighbours, got {n} rows, "
            f"{d} columns and n_neighbors={n_neighbors}."
        )
    if d == 1:
        return 0.0
    rng = _samples.generator(random_state)
    found = _samples.whiten(_normal_scores(Z, rng))
    if found is None:
        return float("inf")
    white, gaussian = found
    null = _samples.whiten(_normal_scores(rng.standard_normal((n, d)), rng))
    if null is None:
        return gaussian
    chosen = rng.permutation(n)[:MAX_ENTROPY_SAMPLES]
    # The difference has none of the bias that both entropies share.
    of_null, own = (_neighbor_entropy(W[chosen], n_neighbors) for W in (null[0], white))
    return gaussian + of_null - own


def _normal_scores(Z: FloatArray, rng: np.random.Generator) -> FloatArray:
    # Sorted by value, ties by chance: a lattice of independent components is independent.
    order = np.lexsort((rng.random(Z.T.shape), Z.T))
    return ndtri((order.argsort(axis=1).T + 1) / (len(Z) + 1))


def _neighbor_entropy(W: FloatArray, n_neighbors: int) -> float:
    """Return the Kozachenko-Leonenko entropy up to terms that depend on n, d and k only."""
    distance = NearestNeighbors(n_neighbors=n_neighbors).fit(W).kneighbors()[0][:, -1]
    return float(W.shape[1] * np.log(np.maximum(distance, 1e-300)).mean())


@own_context()
def intrinsic_dimension(X: ArrayLike, *, random_state: RandomState = 0) -> float:
    r"""Intrinsic dimension, from the distances to two nearest neighbours (TwoNN).

    .. math:: \hat d = \frac{n - 1}{\sum_i \log (r_{i2} / r_{i1})}

    with :math:`r_{i1} \le r_{i2}` the distances of sample i to its two nearest neighbours (Facco et
    al., Sci. Rep. 7, 12140, 2017). Its standard deviation is about d / sqrt(n). Above about 10 it
    is too low: compare it with that of a sample of known dimension. Noise counts as dimensions.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Samples, with features on comparable scales: 4,000 at most, of which repeated count once.
    random_state : int, Generator, RandomState or None, default=0
        Seed of which samples are used.

    Returns
    -------
    dimension : float
        NaN with fewer than 20 distinct samples, and for a lattice.

    Raises
    ------
    ValueError, TypeError
        If X is no table of finite numbers with two rows at least.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import intrinsic_dimension
    >>> u, v = np.random.default_rng(0).uniform(size=(2, 1000))
    >>> round(intrinsic_dimension(np.column_stack([u, v, u * v, np.sin(3 * u), v**2])))
    2
    """
    X, rng = _samples.check_sample(X, "X"), _samples.generator(random_state)
    X = np.unique(_samples.subsample(X, MAX_DIMENSION_SAMPLES, rng), axis=0)
    if len(X) < MIN_DIMENSION_SAMPLES:
        return float("nan")
    distances = NearestNeighbors(n_neighbors=2).fit(X).kneighbors()[0]
    # The square of a tiny difference can be zero, though the samples differ.
    first, second = np.maximum(distances, np.finfo(np.float64).tiny).T
    if (second <= first * (1 + 1e-9)).mean() >= 0.1:
        return float("nan")
    return float((len(X) - 1) / np.log(second / first).sum())


@dataclass(frozen=True)
class Consistency:
    """How alike two embeddings of the same samples are.

    Attributes
    ----------
    cka : float
        Linear centred kernel alignment (CKA): 1 where one is the other, turned and scaled.
    procrustes : float
        Share of the variance of one that the other explains, turned and scaled as it fits best.
    """

    cka: float
    procrustes: float


@own_context()
def consistency(Z1: ArrayLike, Z2: ArrayLike) -> Consistency:
    r"""Compare two embeddings of the same samples, up to a rotation.

    .. math:: \mathrm{CKA} = \frac{\|Z_1^\top Z_2\|_F^2}
              {\|Z_1^\top Z_1\|_F \, \|Z_2^\top Z_2\|_F}, \qquad
              R^2 = \frac{\|Z_1^\top Z_2\|_*^2}{\|Z_1\|_F^2 \, \|Z_2\|_F^2}

    of centred embeddings (Kornblith et al., ICML 2019, section 3), with :math:`\|\cdot\|_*` the sum
    of singular values. Compare at N(0, I): a target such as "uniform" is no rotation of itself.

    Parameters
    ----------
    Z1, Z2 : array-like of shape (n_samples, n_components)
        Embeddings of the same samples, two at least; their numbers of components may differ.

    Returns
    -------
    found : Consistency
        CKA and R^2, both 0 where an embedding is constant.

    Raises
    ------
    ValueError, TypeError
        If one is no table of finite numbers, or they have other numbers of samples.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import consistency
    >>> Z = np.random.default_rng(0).standard_normal((100, 2))
    >>> consistency(Z, 3 * Z[:, ::-1])
    Consistency(cka=1.0..., procrustes=1.0...)
    """
    A, B = (_unit(Z) for Z in _same_samples(Z1, Z2))
    across = np.linalg.svd(A.T @ B, compute_uv=False)
    norms = np.linalg.norm(A.T @ A) * np.linalg.norm(B.T @ B)
    cka = float(np.square(across).sum() / norms) if norms > 0 else 0.0
    return Consistency(cka, procrustes=float(across.sum() ** 2))


@own_context()
def align(Z1: ArrayLike, Z2: ArrayLike) -> FloatArray:
    r"""Turn one embedding onto another one of the same samples (orthogonal Procrustes).

    .. math:: \min_{R^\top R = I} \|(Z_1 - \bar Z_1) R - (Z_2 - \bar Z_2)\|_F

    Parameters
    ----------
    Z1, Z2 : array-like of shape (n_samples, n_components)
        Embeddings of the same samples, two at least.

    Returns
    -------
    Z : ndarray of shape (n_samples, n_components)
        `Z1` turned, reflected where that fits better, and with the mean of `Z2`.

    Raises
    ------
    ValueError, TypeError
        As of `consistency`; if they have other numbers of components.
    """
    A, B = _same_samples(Z1, Z2)
    if A.shape != B.shape:
        raise ValueError(f"Z1 has {A.shape[1]} components and Z2 {B.shape[1]}: both need as many.")
    centred = A - A.mean(0)
    return centred @ orthogonal_procrustes(centred, B - B.mean(0))[0] + B.mean(0)


@own_context()
def effective_rank(Z: ArrayLike) -> float:
    r"""Return how many directions an embedding uses.

    .. math:: \exp \Bigl( -\sum_i p_i \log p_i \Bigr), \qquad p_i = \sigma_i / \sum_j \sigma_j

    with the singular values :math:`\sigma_i` of the centred embedding (Roy, Vetterli, 2007).

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        Embedded samples, two at least.

    Returns
    -------
    rank : float
        From 1 to the number of components; 0 where all samples are the same.

    Raises
    ------
    ValueError, TypeError
        If Z is no table of finite numbers with two rows at least.
    """
    values = np.linalg.svd(_unit(_samples.check_sample(Z)), compute_uv=False)
    return float(np.exp(entropy(values))) if values.any() else 0.0


def _same_samples(Z1: ArrayLike, Z2: ArrayLike) -> tuple[FloatArray, FloatArray]:
    A, B = _samples.check_sample(Z1, "Z1"), _samples.check_sample(Z2, "Z2")
    if len(A) != len(B):
        raise ValueError(f"Z1 has {len(A)} samples and Z2 {len(B)}: they must be the same ones.")
    return A, B


def _unit(Z: FloatArray) -> FloatArray:
    """Return the centred embedding over its norm; zeros where it is constant."""
    largest = np.abs(Z).max()
    Z = Z / largest if largest > 0 else Z
    Z = Z - Z.mean(0)
    norm = np.linalg.norm(Z)
    return Z / norm if norm > 1e-12 else np.zeros_like(Z)
