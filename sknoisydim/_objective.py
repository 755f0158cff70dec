"""The objective: row -> view -> encoder -> normalisation -> noise -> critic -> bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from sknoisydim.normalization import Normalizer


class Nats(NamedTuple):
    """What one batch showed, in nats."""

    objective: torch.Tensor
    view: torch.Tensor
    clean: torch.Tensor


class Objective(nn.Module):
    r"""Noise-injected Deep InfoMax on a batch of rows.

    .. math:: (1 - w) \hat I(f(X'); f(X) + Z) + w \hat I(f(X); f(X) + Z)

    where f is the encoder with its normalisation, X' the view of row X, Z the channel's noise, and
    :math:`\hat I` the bound: with the learned critic for the view, with the channel's own density
    for the clean row. Each branch is normalised by its own statistics.

    Parameters
    ----------
    encoder, normalizer : nn.Module
        (n, p) -> (n, d) -> (n, d).
    channel : object
        With `transmit`, `log_ratio` and `capacity`, from `sknoisydim.noise`.
    critic : nn.Module or None
        (view, noisy) -> scores; None where w = 1.
    bound : callable
        Scores (n, n) -> nats.
    augmentation : callable
        (batch, generator) -> batch.
    clean_weight : float
        w.

    References
    ----------
    I. Butakov et al., "Efficient Distribution Matching of Representations via Noise-Injected
    Deep InfoMax", ICLR 2025, arXiv:2410.06993, for w = 0.
    """

    def __init__(
        self,
        encoder: nn.Module,
        normalizer: Normalizer,
        channel: Any,
        critic: nn.Module | None,
        bound: Callable[[torch.Tensor], torch.Tensor],
        augmentation: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
        clean_weight: float,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalizer: Normalizer = normalizer
        self.channel = channel
        self.critic = critic
        self.bound = bound
        self.augmentation = augmentation
        self.clean_weight = clean_weight

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return normalised embeddings (n, d) of scaled rows (n, p)."""
        return self.normalizer(self.encoder(x))

    def forward(self, x: torch.Tensor, partners: torch.Tensor, generator: torch.Generator) -> Nats:
        """Return the nats of a batch.

        Parameters
        ----------
        x : Tensor of shape (n, p)
            Scaled rows.
        partners : Tensor of shape (n, p)
            The rows that views are made of: x itself, or rows of the same class.
        generator : torch.Generator
            Of noise and views, on the device of x.
        """
        clean = self.embed(x)
        noisy = self.channel.transmit(clean, generator)
        w = self.clean_weight
        zero = clean.new_zeros(())
        in_clean = self.bound(self.channel.log_ratio(clean, noisy)) if w > 0 else zero
        in_view = zero
        if self.critic is not None:
            view = self.embed(self.augmentation(partners, generator))
            in_view = self.bound(self.critic(view, noisy))
        return Nats((1 - w) * in_view + w * in_clean, in_view.detach(), in_clean.detach())
