"""Closed forms of a batch: its linear information about features, its distance to N(0, I)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.stats import chi
from torch import Tensor, nn
from torch.linalg import slogdet

# Added to the variances of reference features of unit variance, so that some may be alike.
RIDGE = 1e-3
# Weight of the radius in the mismatch. Of 4,000 rows of 20 Gaussian latents, d = 16, var|z|^2 / 2d
# is 0.24 without it, and within 0.15 of 1 with 0.1 (TestDistribution in tests/test_linear.py).
RADIUS = 0.1


class Rows:
    """The rows of matrices of pairs (n, n) that this process computes: all, where it is alone.

    What is computed of its `part` of n rows is a part of a `sum` over all processes, or of the
    `logsumexp`. So is the gradient, also that of the embeddings that `share` returns. `encode`
    returns what an encoder makes of all rows.
    """

    n_ranks = 1

    def __repr__(self) -> str:
        return "ALL"

    def part(self, n: int) -> slice:
        return slice(0, n)

    def encode(self, encoder: nn.Module, x: Tensor) -> Any:
        return encoder(x)

    def share(self, z: Tensor) -> Tensor:
        return z

    sum = logsumexp = share  # of one process: what it is given


ALL = Rows()


def linear_information(z: Tensor, features: Tensor, scale: float, most: float = math.inf) -> Tensor:
    r"""Return the Gaussian information that noisy embeddings have about features, in nats.

    .. math:: I_{lin}(U; f(X) + Z) = \frac{1}{2} \log
              \frac{\det((1 + s^2) C_{zz})}{\det((1 + s^2) C_{zz} - C_{zu} C_{uu}^{-1} C_{uz})}

    with z (n, d) the embeddings, u (n, k) the features, of about unit variance, and s the standard
    deviation of the noise: that of a Gaussian with these covariances (Cover, Thomas, "Elements of
    Information Theory", 2006, theorem 8.4.1), in a white embedding: the information of a linear
    model, at most :math:`\min(d, k) / 2 \cdot \log(1 + 1 / s^2)`. No linear map of features or
    embeddings changes it. Since U, X, f(X) and f(X) + Z are a Markov chain, the channel's capacity
    bounds what it estimates. A row of features with a NaN is left out, and counts as one that says
    nothing. What is above `most`, and above what n rows show of features that are independent of
    them, does not count: in the mean d k / 2 n, as of a likelihood ratio (Wilks 1938).
    """
    known = ~features.isnan().any(1, keepdim=True)
    weights = known.to(z) / known.sum().clamp(min=1)
    u = torch.where(known, features, 0.0)
    u = u - (weights * u).sum(0)
    z = z - (weights * z).sum(0)
    weighted = weights * z
    eye_u, eye_z = (torch.eye(x.shape[1], dtype=z.dtype, device=z.device) for x in (u, z))
    within_u = (weights * u).T @ u + RIDGE * eye_u
    across = weighted.T @ u
    # Neither solve_ex nor slogdet checks for an error, for which a step on a GPU would wait.
    explained = across @ torch.linalg.solve_ex(within_u, across.T)[0]
    # Noise in proportion to the spread of the known rows: else they would be pulled apart from the
    # others, which says nothing of u.
    whole = (1 + scale**2) * (weighted.T @ z + RIDGE * eye_z)
    nats: Tensor = 0.5 * (slogdet(whole).logabsdet - slogdet(whole - explained).logabsdet)
    if most < math.inf:
        # Features need not be independent: their number is the trace of a projection.
        rank = u.shape[1] - RIDGE * torch.linalg.inv_ex(within_u)[0].trace()
        by_chance = z.shape[1] * rank / (2 * known.sum().clamp(min=1))
        nats = torch.minimum(nats, most + by_chance)
    return nats * known.to(z).mean()


def gaussian_mmd(z: Tensor, rows: Rows = ALL) -> Tensor:
    r"""Return the squared Gaussian-kernel distance (MMD) of embeddings (n, d) to N(0, I), unbiased.

    With the bandwidth :math:`\beta = 1 / \sqrt d`, over the largest value that it takes far out:

    .. math:: T = \frac{1}{n (n - 1)} \sum_{i \ne j} e^{-\beta^2 |z_i - z_j|^2 / 2}
              - \frac{2 (1 + \beta^2)^{-d / 2}}{n} \sum_i e^{-\beta^2 |z_i|^2 / (2 (1 + \beta^2))}
              + (1 + 2 \beta^2)^{-d / 2}

    Joint: radius, clusters and dependence all count. One row has no pairs, and counts as 0.
    Sources: N. Henze, B. Zirkler, Communications in Statistics 19 (1990), equation 2.2, there for
    rows with their own pairs; A. Gretton et al., JMLR 13 (2012), equation 3.
    """
    n, d = z.shape
    if n < 2:
        return z.sum() * 0.0
    square = 1.0 / d
    part, norms = rows.part(n), z.square().sum(1)
    distances = (norms[part, None] + norms - 2 * z[part] @ z.T).clamp(min=0)
    kernel = torch.exp(-0.5 * square * distances)
    pairs = (kernel.sum() - kernel.diagonal(part.start).sum()) / (n * (n - 1))
    crossed = torch.exp(-0.5 * square / (1 + square) * norms[part]).sum() / n
    reference = (1 + 2 * square) ** (-d / 2)
    result = rows.sum(pairs - 2 * (1 + square) ** (-d / 2) * crossed) + reference
    return result / (1 - reference)


def radius_distance(z: Tensor, rows: Rows = ALL) -> Tensor:
    r"""Return the squared Wasserstein distance of the norms of z (n, d) to those of N(0, I).

    .. math:: \frac{1}{n} \sum_i \left(|z|_{(i)} - F^{-1}\left(\frac{i - 1/2}{n}\right)\right)^2

    with F the distribution function of chi with d degrees of freedom. InfoNCE of a batch is larger
    for a thin shell than for N(0, I) from d = 8 on: this is what makes up for it.
    """
    norms, part = z.norm(dim=1), rows.part(len(z))
    quantiles = _chi_quantiles(*z.shape, z.dtype, z.device)
    wanted = torch.empty_like(norms).scatter(0, norms.argsort(), quantiles)
    return rows.sum((norms - wanted)[part].square().sum()) / len(z)


@lru_cache(maxsize=64)
def _chi_quantiles(n: int, d: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Kept where it is wanted: a step on a GPU that had to send it would wait for it.
    return torch.from_numpy(chi.ppf((np.arange(n) + 0.5) / n, d)).to(device, dtype)


def distance_to_normal(z: Tensor, rows: Rows = ALL) -> Tensor:
    """Return how far the rows (n, d) of a batch are from N(0, I), times their number.

    `gaussian_mmd`, and `radius_distance` with the weight 0.1. By the number of rows, since what
    chance adds falls with it: draws of N(0, I) have about the same value in any batch.
    """
    return len(z) * (gaussian_mmd(z, rows) + RADIUS * radius_distance(z, rows))
