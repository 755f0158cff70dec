"""The objective: row -> view -> encoder -> normalisation -> noise -> critic -> bound."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from sknoisydim.encoders import IndicateMissing
from sknoisydim.normalization import Normalizer


class Nats(NamedTuple):
    """What one batch showed, in nats."""

    objective: torch.Tensor
    view: torch.Tensor
    clean: torch.Tensor


def _expect(value: Any, shape: tuple[int, ...], like: torch.Tensor, source: str) -> torch.Tensor:
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
    r"""Noise-injected Deep InfoMax on a batch of rows.

    .. math:: (1 - w) \hat I(f(X'); f(X) + Z) + w \hat I(f(X); f(X) + Z)

    where f is the encoder with its normalisation, X' the view of row X, Z the channel's noise, and
    :math:`\hat I` the bound: with `critic` for the view, with the channel's own density for the
    clean row; where that has no gradient (`channel.exact` is False), with `critic` too. Each branch
    is normalised by its own statistics, and dropout is part of the view where `view_dropout` is
    True.

    Parameters
    ----------
    encoder, normalizer : nn.Module
        (n, p) -> (n, d) -> (n, d).
    channel : object
        With `transmit`, `log_ratio` and `capacity`, from `sknoisydim.noise`. One whose `exact` is
        False also has `for_critic`, what of a pair a critic is shown, and `deviation`, to which
        the embedding is normalised.
    critic : nn.Module or None
        (view, noisy) -> scores; None where w = 1 and the channel is exact.
    bound : callable
        Scores (n, n) -> nats.
    augmentation : callable
        (batch, generator) -> batch.
    clean_weight : float
        w.
    supervision : float
        Probability that the view of a row that has a partner is the partner.

    References
    ----------
    I. Butakov et al., "Efficient Distribution Matching of Representations via Noise-Injected
    Deep InfoMax", ICLR 2025, arXiv:2410.06993, for w = 0.
    """

    # Dtype of the encoder's matrix products in training, where it is not float32.
    precision: torch.dtype | None = None
    # Whether the encoder's dropout is part of the view. It makes up for what rows of one's own
    # leave alike, and takes from views that are other rows of a class.
    view_dropout = True

    def __init__(
        self,
        encoder: nn.Module,
        normalizer: Normalizer,
        channel: Any,
        critic: nn.Module | None,
        bound: Callable[[torch.Tensor], torch.Tensor],
        augmentation: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
        clean_weight: float,
        supervision: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalizer: Normalizer = normalizer
        self.channel = channel
        self.critic = critic
        self.bound = bound
        self.augmentation = augmentation
        self.clean_weight = clean_weight
        self.supervision = supervision
        if not self._exact:
            normalizer.suit(channel.deviation)

    @property
    def _exact(self) -> bool:
        return getattr(self.channel, "exact", True)

    @contextlib.contextmanager
    def _dropping(self, active: bool) -> Iterator[None]:
        """Let the encoder drop what it wants, in a view, or nothing, in clean rows.

        What has to match is the distribution of the f(X) of `transform`, which drops nothing.
        Whatever drops (layers, functions, attention) asks whether it is in training, so nothing is
        but what normalises by the batch. Recurrent layers are, too, at a rate of 0: cuDNN has no
        gradients of them in evaluation.
        """
        resting, rates = [], []
        if self.training and not active:
            for module in self.encoder.modules():
                if isinstance(module, nn.RNNBase):
                    rates.append((module, module.dropout))
                elif module.training and "running_mean" not in module._buffers:
                    resting.append(module)
        try:
            for module in resting:
                module.training = False
            for module, _ in rates:
                module.dropout = 0.0
            yield
        finally:
            for module in resting:
                module.training = True
            for module, rate in rates:
                module.dropout = rate

    def _view(
        self, x: torch.Tensor, partners: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        view = self.augmentation(x, generator)
        view = _expect(view, tuple(x.shape), x, "the augmentation of a batch of rows")
        if partners is x:
            return view
        same = partners == x
        if isinstance(self.encoder, IndicateMissing):
            same |= partners.isnan() & x.isnan()  # NaN is not equal to itself
        among = getattr(self.augmentation, "among", None)
        mixed = view
        if among is not None and self.supervision < 1:
            mixed = _expect(among(x, partners, generator), tuple(x.shape), x, "the augmentation")
        chance = torch.rand(len(x), generator=generator, device=x.device, dtype=torch.float32)
        whole, alone = (
            rows.view(-1, *[1] * (x.ndim - 1))
            for rows in (chance < self.supervision, same.flatten(1).all(1))
        )
        return torch.where(alone, view, torch.where(whole, partners, mixed))

    def _nats(self, scores: torch.Tensor) -> torch.Tensor:
        return _expect(self.bound(scores), (), scores, "the bound, of scores (n, n),")

    def _score(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        if self.critic is None:
            raise ValueError("the objective has no critic, and its clean_weight asks for one.")
        pair = (view, noisy) if self._exact else self.channel.for_critic(view, noisy)
        square = (len(noisy), len(view))
        return _expect(self.critic(*pair), square, view, "the critic of n views and rows")

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return normalised embeddings (n, d) of scaled rows (n, p)."""
        if self.precision is None:
            return self.normalizer(self.encoder(x))
        # The encoder alone: bfloat16 has three digits, and scores of 50 nats would be off by 0.2.
        # Inside of another one, casts of the weights would be kept from one step to the next.
        options = {"enabled": self.training, "cache_enabled": False}
        with torch.autocast(x.device.type, self.precision, **options):
            output = self.encoder(x)
        return self.normalizer(output.float())

    def forward(
        self,
        x: torch.Tensor,
        partners: torch.Tensor,
        generator: torch.Generator,
        clean_weight: float | None = None,
    ) -> Nats:
        """Return the nats of a batch.

        Parameters
        ----------
        x : Tensor of shape (n, p)
            Scaled rows.
        partners : Tensor of shape (n, p)
            x itself, or for some rows another of the same class. That one is the view with the
            probability `supervision`, and else what the view takes values from, if it takes any
            from other rows. A row that is its own partner is augmented.
        generator : torch.Generator
            Of noise and views, on the device of x.
        clean_weight : float, optional
            In place of w, in one step of training.
        """
        with self._dropping(False):
            clean = self.embed(x)
        noisy = self.channel.transmit(clean, generator)
        w = self.clean_weight if clean_weight is None else clean_weight
        in_clean = in_view = clean.new_zeros(())
        if w > 0:
            score = self.channel.log_ratio if self._exact else self._score
            in_clean = self._nats(score(clean, noisy))
        if w < 1:
            rows = self._view(x, partners, generator)
            with self._dropping(self.view_dropout):
                view = self.embed(rows)
            in_view = self._nats(self._score(view, noisy))
        return Nats((1 - w) * in_view + w * in_clean, in_view.detach(), in_clean.detach())
