"""The objective: what crosses the channel, what stays linear in it, and the distribution."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sknoisydim._linear import ALL, Rows, distance_to_normal, linear_information
from sknoisydim._modules import make_generator
from sknoisydim.bounds import infonce, takes_rows
from sknoisydim.noise import Channel
from sknoisydim.normalization import Normalizer


class Nats(NamedTuple):
    """What one batch showed: the weighted sum, and its parts.

    `information` is that of view and clean row, by their weights; `mismatch`, which is not in nats,
    the distance to N(0, I), 0 in the mean of draws from it.
    """

    objective: torch.Tensor
    information: torch.Tensor
    view_information: torch.Tensor
    clean_information: torch.Tensor
    linear_information: torch.Tensor
    mismatch: torch.Tensor


def _expect(value: object, shape: tuple[int, ...], like: torch.Tensor, source: str) -> torch.Tensor:
    """Return what a component made, if it is a tensor of this shape and of the dtype of `like`."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{source} returned a {type(value).__name__}, not a torch tensor of shape {shape}."
        )
    if tuple(value.shape) != shape or value.dtype != like.dtype:
        raise ValueError(
            f"{source} returned a tensor of shape {tuple(value.shape)} and {value.dtype}; it has "
            f"to be of shape {shape} and {like.dtype}."
        )
    return value


class Objective(nn.Module):
    r"""Noise-injected Deep InfoMax on a batch of rows, with what keeps and shapes its embedding.

    .. math:: (1 - w) \hat I(f(X'); f(X) + Z) + w \hat I(f(X); f(X) + Z)
              + \sum_j \lambda_j I_{lin}(U_j; f(X) + Z) - \gamma T(f(X))

    where f is the encoder with its normalisation, X' the view of row X, Z the channel's noise, and
    :math:`\hat I` the bound: with `critic` for the view, with the channel's own density for the
    clean row; where that has no gradient (`channel.exact` is False), with `critic` too, which else
    may be None where w = 1. :math:`I_{lin}` is `linear_information` about reference features U of
    the row, which counts up to `linear_limits`, :math:`T` the `distance_to_normal` of the batch; w
    is `clean_weight`, :math:`\lambda_j` are `linear_weights`, and :math:`\gamma` is `match_weight`.
    Each branch is normalised by its own statistics, and dropout is part of the view.

    A channel has `transmit`, `log_ratio` and `capacity`, one that is not exact also `for_critic`,
    what of a pair a critic is shown, and `deviation`, to which the embedding is normalised.

    Source: I. Butakov et al., "Efficient Distribution Matching of Representations via
    Noise-Injected Deep InfoMax", ICLR 2025, arXiv:2410.06993, for w = 0 and no further term.
    """

    # Dtype of the encoder's matrix products in training, where it is not float32.
    precision: torch.dtype | None = None
    # What of the pairs of a batch this process computes in training.
    rows: Rows = ALL
    # Nats of linear information that count at most, a block; None where all do.
    linear_limits: tuple[float, ...] | None = None

    def __init__(
        self,
        encoder: nn.Module,
        normalizer: Normalizer,
        channel: Any,
        critic: nn.Module | None,
        bound: Callable[..., torch.Tensor],
        augmentation: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
        clean_weight: float = 1.0,
        linear_weights: tuple[float, ...] = (),
        match_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalizer: Normalizer = normalizer
        self.channel, self.critic, self.bound = channel, critic, bound
        self.augmentation = augmentation
        self.clean_weight, self.match_weight = clean_weight, match_weight
        self.linear_weights = linear_weights
        if not self._exact:
            normalizer.set_target_std(channel.deviation)

    @property
    def _exact(self) -> bool:
        return getattr(self.channel, "exact", True)

    @contextlib.contextmanager
    def _dropping_nothing(self) -> Iterator[None]:
        """Let the encoder keep all of clean rows, as in `transform`; views are dropped from.

        Whatever drops (layers, functions, attention) asks whether it is in training, so nothing is
        but what normalises by the batch. Recurrent layers are, too, at a rate of 0: cuDNN has no
        gradients of them in evaluation.
        """
        changed: list[tuple[nn.Module, str, Any]] = []
        for module in self.encoder.modules() if self.training else ():
            if isinstance(module, nn.RNNBase):
                changed.append((module, "dropout", module.dropout))
                module.dropout = 0.0
            elif module.training and "running_mean" not in module._buffers:
                changed.append((module, "training", True))
                module.training = False
        try:
            yield
        finally:
            for module, name, before in changed:
                setattr(module, name, before)

    def _nats(
        self, view: torch.Tensor, noisy: torch.Tensor, rows: Rows, *, exact: bool = False
    ) -> torch.Tensor:
        """Return the bound of the scores of views with noisy rows, by the channel or the critic."""
        n, by_rows = len(noisy), rows is not ALL and takes_rows(self.bound)
        part = rows.part(n) if by_rows else slice(None)
        if exact:
            scores = self.channel.log_ratio(view, noisy[part])
        elif self.critic is None:
            raise ValueError("the objective has no critic, and its clean_weight asks for one.")
        else:
            first, shown = (view, noisy) if self._exact else self.channel.for_critic(view, noisy)
            by_pair = getattr(self.critic, "by_pair", False)
            shown = shown[part] if by_pair else shown
            scores = self.critic(first, shown)
            scores = _expect(scores, (len(shown), n), view, "the critic of n views and rows")
            scores = scores if by_pair else scores[part]
        nats = self.bound(scores, rows=rows) if by_rows else self.bound(scores)
        nats = _expect(nats, (), scores, "the bound, of scores (n, n),")
        # What every process computes in full is a part of the sum in each.
        return nats if by_rows or rows is ALL else rows.sum(nats / rows.n_ranks)

    def embed(self, x: torch.Tensor, rows: Rows = ALL) -> torch.Tensor:
        """Return normalised embeddings (n, d) of scaled rows (n, p)."""
        if self.precision is None:
            return self.normalizer(rows.encode(self.encoder, x))
        # The encoder alone: bfloat16 has three digits, and scores of 50 nats would be off by 0.2.
        # Inside of another one, casts of the weights would be kept from one step to the next.
        options = {"enabled": self.training, "cache_enabled": False}
        with torch.autocast(x.device.type, self.precision, **options):
            output = rows.encode(self.encoder, x)
        return self.normalizer(output.float())

    def forward(
        self, x: torch.Tensor, references: Sequence[torch.Tensor], generator: torch.Generator
    ) -> Nats:
        """Return the nats of a batch of scaled rows x (n, p).

        `references` are reference features (n, k) of the rows, a block for each of
        `linear_weights`, NaN where they are unknown. Noise and views come from `generator`.
        """
        rows = self.rows if torch.is_grad_enabled() else ALL
        with self._dropping_nothing():
            clean = self.embed(x, rows)
        shared = rows.share(clean)
        noisy = self.channel.transmit(shared, generator)
        w = self.clean_weight
        in_clean = in_view = linear = mismatch = clean.new_zeros(())
        if w > 0:
            in_clean = self._nats(shared, noisy, rows, exact=self._exact)
        if w < 1:
            changed = self.augmentation(x, generator)
            changed = _expect(changed, tuple(x.shape), x, "the augmentation of a batch of rows")
            view = rows.share(self.embed(changed, rows))
            in_view = self._nats(view, noisy, rows)
        total = information = (1 - w) * in_view + w * in_clean
        limits = self.linear_limits or (math.inf,) * len(references)
        for weight, most, features in zip(self.linear_weights, limits, references, strict=True):
            nats = linear_information(clean, features, self.channel.scale, most)
            total = total + weight * nats
            linear = linear + nats
        # A channel of another kind has another best distribution than N(0, I).
        if self.match_weight > 0 and self._exact:
            mismatch = distance_to_normal(shared, rows)
            total = total - self.match_weight * mismatch
        parts = (information, in_view, in_clean, linear, mismatch)
        return Nats(total, *(part.detach() for part in parts))


def channel_nats(embedded: Iterable[torch.Tensor], channel: Channel, seed: int) -> float:
    """Return the mean information, in nats, that batches of embeddings send through the channel.

    InfoNCE with the channel's own density, so at most the log of the batch size.
    """
    values, generator = [], None
    with torch.no_grad():
        for clean in embedded:
            generator = generator or make_generator(seed, clean.device)
            noisy = channel.transmit(clean, generator)
            values.append(infonce(channel.log_ratio(clean, noisy)).item())
    return float(np.mean(values))


# Noisy rows that a score looks at, at least, and draws of the noise for a row at most.
SCORE_ROWS, SCORE_DRAWS = 2**14, 2**8


def information_share(z: np.ndarray, channel: Channel, batch_size: int) -> float:
    """Return the information of embeddings z (n, d) over that of the channel's best distribution.

    Both by batches of the same size, so that 1 is reached for every channel and size. What is above
    1 is chance, or a distribution that InfoNCE of a batch takes for a better one, such as a thin
    shell or too large a variance: it counts as its inverse.
    """
    size = min(batch_size, len(z))
    # A small table gets several draws of the noise, so that a share of few nats is stable too.
    n_draws = min(SCORE_DRAWS, -(-SCORE_ROWS // len(z)))
    # Of a sorted table a batch would show too little; the last one is filled from the front.
    order = np.random.default_rng(0).permutation(len(z))
    order = np.resize(order, -(-len(z) // size) * size)
    batches = torch.from_numpy(z[order]).split(size) * n_draws
    # Another seed than that of the noise, which would be the same numbers.
    best = channel.sample_input(len(order) * n_draws, make_generator(1)).to(batches[0])
    share = channel_nats(batches, channel, 0) / channel_nats(best.split(size), channel, 0)
    return float(np.clip(min(share, 1 / share) if share > 0 else 0.0, 0, 1))
