"""The objective: row -> view -> encoder -> normalisation -> noise -> critic -> bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from sknoisydim._modules import Dropout
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
    for the clean row. Each branch is normalised by its own statistics, and dropout is part of the
    view.

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
        kinds = (Dropout, nn.modules.dropout._DropoutNd)
        self._dropouts = tuple(m for m in encoder.modules() if isinstance(m, kinds))

    def _drop(self, active: bool) -> None:
        """Turn the encoder's dropout on for a view, or off for clean rows.

        The law of f(X) that has to match is that of `transform`, which drops nothing.
        """
        if self.training:
            for layer in self._dropouts:
                layer.training = active

    def _view(
        self, x: torch.Tensor, partners: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        view = self.augmentation(x, generator)
        if partners is x:
            return view
        alone = (partners == x).flatten(1).all(1)
        return torch.where(alone.view(-1, *[1] * (x.ndim - 1)), view, partners)

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
            x itself, or for some rows another of the same class, which then is the view as it
            is; a row that is its own partner is augmented.
        generator : torch.Generator
            Of noise and views, on the device of x.
        """
        self._drop(False)
        clean = self.embed(x)
        noisy = self.channel.transmit(clean, generator)
        w = self.clean_weight
        zero = clean.new_zeros(())
        in_clean = self.bound(self.channel.log_ratio(clean, noisy)) if w > 0 else zero
        in_view = zero
        if self.critic is not None:
            self._drop(True)
            view = self.embed(self._view(x, partners, generator))
            in_view = self.bound(self.critic(view, noisy))
        return Nats((1 - w) * in_view + w * in_clean, in_view.detach(), in_clean.detach())
