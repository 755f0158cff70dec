"""The concatenating critic: every pair through one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import nn
from torch.utils.checkpoint import checkpoint

from sknoisydim._context import own_context, own_forward
from sknoisydim._modules import linear, mlp
from sknoisydim._validation import check_integer

from ._gaussian import QuadraticRatio

# Numbers that the first hidden layer of a chunk of pairs may hold (4 MB in float32): large enough
# to keep matrix products busy, small enough to stay in cache with what the backward pass needs.
CHUNK = 2**20


class _Concat(nn.Module):
    by_pair = True

    def __init__(
        self, start: nn.Module, view: nn.Linear, noisy: nn.Linear, network: nn.Sequential
    ) -> None:
        super().__init__()
        self.start = start
        self.view = view
        self.noisy = noisy
        self.network = network

    def _pairs(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        """Return scores (m, n) of hidden layers of noisy embeddings (m, h) with views (n, h)."""
        scores: torch.Tensor = self.network((noisy[:, None] + view).relu()).squeeze(-1)
        return scores

    @own_forward
    def forward(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        start: torch.Tensor = self.start(view, noisy)
        # A linear layer of two joined vectors is the sum of one of each: n products, not n^2.
        of_view, of_noisy = self.view(view), self.noisy(noisy)
        rows = max(1, CHUNK // of_view.numel())
        if not torch.is_grad_enabled() or len(noisy) <= rows:
            chunks = [self._pairs(of_view, part) for part in of_noisy.split(rows)]
        else:
            # Nothing in a chunk is random, so no state of a generator has to be kept.
            chunks = [
                checkpoint(
                    self._pairs, of_view, part, use_reentrant=False, preserve_rng_state=False
                )
                for part in of_noisy.split(rows)
            ]
        return start + torch.cat(chunks)


class ConcatCritic(BaseEstimator):
    r"""All pairs through one network, :math:`T(x, y) = T_0(x, y) + h([x, y])`.

    :math:`T_0` is the form of `BilinearCritic`, and h starts at zero, so that training starts at
    the density ratio of the channel and not at no information. The most general critic, and the
    dearest: n^2 evaluations of a network per batch, where a separable critic takes 2n.

    Memory is bounded: pairs are taken in chunks of rows, of each of which only the scores are kept,
    and the backward pass computes a chunk again when it needs it. At the peak there are the n x n
    scores and the layers of one chunk, 2^20 numbers each (4 MB), whatever the batch size.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64,)
        Widths of the hidden layers of h, at least one.

    References
    ----------
    M. I. Belghazi et al., "Mutual Information Neural Estimation", ICML 2018, for a network of
    joined pairs; B. Poole et al., "On Variational Bounds of Mutual Information", ICML 2019, section
    3, for joint against separable critics.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.critics import ConcatCritic
    >>> from sknoisydim.noise import GaussianNoise
    >>> channel = GaussianNoise(0.5).build(4, 32)
    >>> critic = ConcatCritic().build(4, channel, torch.Generator().manual_seed(0))
    >>> critic(torch.zeros(10, 4), torch.zeros(10, 4)).shape
    torch.Size([10, 10])
    """

    def __init__(self, hidden_layer_sizes: Sequence[int] = (64,)) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes

    @own_context()
    def build(self, n_components: int, channel: Any, generator: torch.Generator) -> nn.Module:
        """Return the module: views (n, d), noisy embeddings (n, d) -> scores (n, n), in nats.

        Of `channel`, its `scale` is used.

        Raises
        ------
        ValueError, TypeError
            If `hidden_layer_sizes` holds no size, or one that is no integer >= 1.
        """
        sizes = [
            check_integer(size, "critic hidden_layer_sizes", minimum=1)
            for size in self.hidden_layer_sizes
        ]
        if not sizes:
            raise ValueError("critic hidden_layer_sizes must name one layer at least, got none.")
        view = linear(n_components, sizes[0], generator)
        noisy = linear(n_components, sizes[0], generator, bias=False)  # that of the view will do
        network = mlp(sizes[0], sizes[1:], 1, generator)
        for parameter in network[-1].parameters():
            nn.init.zeros_(parameter)
        return _Concat(QuadraticRatio(n_components, channel.scale), view, noisy, network)
