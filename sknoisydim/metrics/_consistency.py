"""Two embeddings of the same samples: how alike they are, and one turned onto the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._context import own_context
from ._samples import FloatArray, check_sample


@dataclass(frozen=True)
class Consistency:
    """How alike two embeddings of the same samples are.

    Attributes
    ----------
    cka : float
        Linear centred kernel alignment (CKA): 1 where one is the other, turned and scaled; about 0
        where no linear map tells one by the other. The largest components count most.
    procrustes : float
        Share of the variance of one that the other explains, turned and scaled as it fits best.
    """

    cka: float
    procrustes: float


@own_context()
def consistency(Z1: Any, Z2: Any) -> Consistency:
    r"""Compare two embeddings of the same samples, up to a rotation, such as those of two seeds.

    .. math:: \mathrm{CKA} = \frac{\|Z_1^\top Z_2\|_F^2}
              {\|Z_1^\top Z_1\|_F \, \|Z_2^\top Z_2\|_F}, \qquad
              R^2 = \frac{\|Z_1^\top Z_2\|_*^2}{\|Z_1\|_F^2 \, \|Z_2\|_F^2}

    of centred embeddings, with :math:`\|\cdot\|_*` the sum of singular values. Both are 0 where an
    embedding is constant. Compare at N(0, I): a target such as "uniform" is no rotation of itself.

    Parameters
    ----------
    Z1, Z2 : array-like of shape (n_samples, n_components)
        The same samples in the same order, at least two; numbers of components may differ.

    References
    ----------
    S. Kornblith, M. Norouzi, H. Lee, G. Hinton, "Similarity of Neural Network Representations
    Revisited", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import consistency
    >>> Z = np.random.default_rng(0).standard_normal((100, 2))
    >>> found = consistency(Z, 3 * Z[:, ::-1])
    >>> round(found.cka, 6), round(found.procrustes, 6)
    (1.0, 1.0)
    """
    A, B = (_unit(Z) for Z in _same_samples(Z1, Z2))
    across = np.linalg.svd(A.T @ B, compute_uv=False)
    norms = np.linalg.norm(A.T @ A) * np.linalg.norm(B.T @ B)
    return Consistency(
        cka=float(np.square(across).sum() / norms) if norms > 0 else 0.0,
        procrustes=float(across.sum() ** 2),
    )


@own_context()
def align(Z1: Any, Z2: Any) -> FloatArray:
    r"""Turn one embedding onto another one of the same samples (orthogonal Procrustes).

    .. math:: \min_{R^\top R = I} \|(Z_1 - \bar Z_1) R - (Z_2 - \bar Z_2)\|_F

    A turned N(0, I) is N(0, I): embeddings of two seeds can be compared by component, and match.

    Parameters
    ----------
    Z1, Z2 : array-like of shape (n_samples, n_components)
        The same samples in the same order.

    Returns
    -------
    aligned : ndarray of shape (n_samples, n_components)
        `Z1` turned, reflected where that fits better, and with the mean of `Z2`.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import align
    >>> Z = np.random.default_rng(0).standard_normal((100, 2))
    >>> bool(np.allclose(align(Z[:, ::-1] + 5, Z), Z))
    True
    """
    A, B = _same_samples(Z1, Z2)
    if A.shape != B.shape:
        raise ValueError(f"Z1 has {A.shape[1]} components and Z2 {B.shape[1]}: both need as many.")
    left, _, right = np.linalg.svd((A - A.mean(0)).T @ (B - B.mean(0)))
    turned: FloatArray = (A - A.mean(0)) @ (left @ right) + B.mean(0)
    return turned


@own_context()
def effective_rank(Z: Any) -> float:
    r"""Return how many directions an embedding uses: from 1 to its number of components.

    .. math:: \exp \Bigl( -\sum_i p_i \log p_i \Bigr), \qquad p_i = \sigma_i / \sum_j \sigma_j

    with :math:`\sigma_i` the singular values of the centred embedding. A whitened one has all of
    its components; 0 where all samples are the same.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_components)
        At least two samples.

    References
    ----------
    O. Roy, M. Vetterli, "The Effective Rank: A Measure of Effective Dimensionality", EUSIPCO 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sknoisydim.metrics import effective_rank
    >>> Z = np.random.default_rng(0).standard_normal((10000, 2))
    >>> round(effective_rank(Z), 2), round(effective_rank(Z[:, [0, 0, 1]] * [1, 1, 0]), 2)
    (2.0, 1.0)
    """
    values = np.linalg.svd(_unit(check_sample(Z)), compute_uv=False)
    if not values.any():
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _same_samples(Z1: Any, Z2: Any) -> tuple[FloatArray, FloatArray]:
    A, B = check_sample(Z1, "Z1"), check_sample(Z2, "Z2")
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
