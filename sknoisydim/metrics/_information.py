"""Mutual information between an embedding and its noisy version, and the scorer made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from .._context import own_context
from .._options import unknown_option
from .._validation import check_integer, check_real
from ._embedding import check_rows, find_transformer, normal_embedding
from ._samples import FloatArray, RandomState, generator, seed_of

#: Samples that one draw of the noise uses, unless a batch is larger.
MAX_INFORMATION_SAMPLES = 2**13

#: Nats in one unit.
UNITS = {"nats": 1.0, "bits": math.log(2.0)}


@dataclass(frozen=True)
class InformationEstimate:
    """Mutual information of an embedding and its noisy version, with what bounds it.

    Attributes
    ----------
    value : float
        The estimate, a lower bound, in `units`.
    low, high : float
        Ends of its confidence interval over draws of the noise.
    reachable : float
        The same estimate for N(0, I), with the same channel and batches: compare `value` with it.
        More is chance, or samples that spread wider than N(0, I).
    capacity : float
        Capacity of the channel.
    cap : float
        Logarithm of the batch size, which the estimate cannot exceed.
    units : str
        "nats" or "bits".
    batch_size : int
        Samples in a batch.
    n_rows : int
        Samples that were given.
    """

    value: float
    low: float
    high: float
    reachable: float
    capacity: float
    cap: float
    units: str
    batch_size: int
    n_rows: int

    def to(self, units: str) -> InformationEstimate:
        """Return the estimate in "nats" or "bits"."""
        factor = UNITS[self.units] / UNITS[_check_units(units)]
        names = ("value", "low", "high", "reachable", "capacity", "cap")
        converted: dict[str, Any] = {name: getattr(self, name) * factor for name in names}
        return replace(self, units=units, **converted)

    def __str__(self) -> str:
        return (
            f"{self.value:.3f} {self.units} ({self.low:.3f} to {self.high:.3f}) of "
            f"{self.reachable:.3f} reachable; capacity {self.capacity:.3f}, "
            f"a batch of {self.batch_size} shows at most {self.cap:.3f}"
        )


@own_context()
def mutual_information(
    est: Any,
    X: Any,
    *,
    units: str = "nats",
    n_draws: int = 20,
    confidence: float = 0.95,
    random_state: RandomState = 0,
) -> InformationEstimate:
    r"""Mutual information between the embedding of samples and its noisy version.

    .. math::
        \hat I = \log B + \frac1B \sum_i \Bigl[ T_{ii} - \tfrac12 \log \sum_j e^{T_{ij}}
        - \tfrac12 \log \sum_j e^{T_{ji}} \Bigr] \le \min(I(f(X); f(X) + Z), \log B)

    (InfoNCE in both directions) averaged over batches of B samples, with f the encoder before any
    refinement, :math:`T_{ij} = \log p(y_i | f(x_j)) - \log p^*(y_i)` the density ratio of the
    channel and :math:`y_i = f(x_i) + z_i`. Nothing is learned here, so nothing can overfit. It is
    the lower bound that the fit reports as `mutual_information_`.

    Parameters
    ----------
    est : NoisyDIMTransformer, Pipeline or fitted search
        Fitted. A Pipeline has one NoisyDIMTransformer at any place; X goes through the steps
        before it.
    X : array-like of shape (n_samples, n_features)
        At least two samples. Each draw uses at most 8,192 of them (or a batch, if larger).
    units : {"nats", "bits"}, default="nats"
        Unit of everything in the result.
    n_draws : int, default=20
        Number of draws of the noise and of batches, at least 2.
    confidence : float, default=0.95
        Level of Student's interval over these draws, for these samples.
    random_state : int, Generator, RandomState or None, default=0
        Seed of the draws.

    Returns
    -------
    estimate : InformationEstimate

    References
    ----------
    A. van den Oord, Y. Li, O. Vinyals, *Representation Learning with Contrastive Predictive
    Coding*, arXiv:1807.03748, section 2.3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.metrics import mutual_information
    >>> X = load_iris().data
    >>> dim = NoisyDIMTransformer(2, max_epochs=5, random_state=0).fit(X)
    >>> estimate = mutual_information(dim, X)
    >>> 0 < estimate.low < estimate.value < estimate.high < estimate.cap
    True
    >>> bits = mutual_information(dim, X, units="bits")
    >>> round(bits.value / estimate.value, 3)
    1.443
    """
    _check_units(units)
    check_integer(n_draws, "n_draws", minimum=2)
    check_real(confidence, "confidence", minimum=0, maximum=1, closed="neither")
    transformer, X = find_transformer(est, X)
    z = normal_embedding(transformer, check_rows(transformer, X), refined=False)
    channel, batch_size = transformer.channel_, transformer.batch_size_
    estimate = channel_information(
        z, channel, batch_size, generator(random_state), n_draws=n_draws, confidence=confidence
    )
    return estimate.to(units)


def channel_information(
    z: FloatArray,
    channel: Any,
    batch_size: int,
    rng: np.random.Generator,
    *,
    n_draws: int = 20,
    confidence: float = 0.95,
) -> InformationEstimate:
    """Return the information that embeddings z (n, d) send through a channel, in nats."""
    size = min(batch_size, len(z))
    n_used = max(size, min(len(z), MAX_INFORMATION_SAMPLES) // size * size)
    found = [_one_draw(rng.permutation(z)[:n_used], channel, size, rng) for _ in range(n_draws)]
    value, low, high = (min(end, math.log(size)) for end in interval(found, confidence))
    return InformationEstimate(
        value=value,
        low=low,
        high=high,
        reachable=reachable_information(channel, size, rng),
        capacity=float(channel.capacity),
        cap=math.log(size),
        units="nats",
        batch_size=size,
        n_rows=len(z),
    )


def interval(found: list[float], confidence: float) -> tuple[float, float, float]:
    """Return the mean of independent values, and the ends of Student's interval for it."""
    n = len(found)
    half = float(student.ppf(0.5 + confidence / 2, n - 1) * np.std(found, ddof=1) / n**0.5)
    mean = float(np.mean(found))
    return mean, mean - half, mean + half


def reachable_information(channel: Any, batch_size: int, rng: np.random.Generator) -> float:
    """Return the estimate for the channel's best input, N(0, I) for Gaussian noise, in nats."""
    from .._isolation import make_generator

    # As many samples as two draws have; a batch of few samples costs as long as one of many.
    n_batches = min(max(2, 2 * MAX_INFORMATION_SAMPLES // batch_size), 500)
    perfect = channel.sample_input(n_batches * batch_size, make_generator(seed_of(rng)))
    return _one_draw(perfect.double().numpy(), channel, batch_size, rng)


def _one_draw(z: FloatArray, channel: Any, size: int, rng: np.random.Generator) -> float:
    # Imported here: metrics of plain arrays need no torch.
    import torch

    from .._isolation import make_generator
    from ..bounds import infonce

    noise = make_generator(seed_of(rng))
    with torch.no_grad():
        nats = [
            infonce(channel.log_ratio(clean, channel.transmit(clean, noise))).item()
            for clean in torch.from_numpy(z).split(size)
        ]
    return float(np.mean(nats))


def _check_units(units: str) -> str:
    if units not in UNITS:
        raise ValueError(unknown_option(str(units), UNITS, "units"))
    return units
