"""The separable critic: one network for views, one for noisy embeddings."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import nn

from sknoisydim._context import own_context, own_forward
from sknoisydim._modules import linear, mlp
from sknoisydim._validation import check_integer, check_real

from ._gaussian import SPREAD


class _Tower(nn.Module):
    """A linear map plus a small network whose output starts at zero."""

    def __init__(self, first: nn.Linear, network: nn.Sequential) -> None:
        super().__init__()
        self.linear = first
        self.network = network
        for parameter in network[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.network(x)


class _Separable(nn.Module):
    by_pair = True

    def __init__(self, view: nn.Module, noisy: nn.Module, temperature: float) -> None:
        super().__init__()
        self.view = view
        self.noisy = noisy
        self.temperature = temperature

    @own_forward
    def forward(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        return (self.noisy(noisy) / self.temperature) @ self.view(view).T


class SeparableCritic(BaseEstimator):
    r"""Inner product of two small networks, :math:`T(x, y) = g(x) \cdot h(y) / \tau`.

    Costs 2n evaluations of a network and one matrix product for the n x n scores, and stays sound
    when view and row differ.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(128,)
        Widths of the hidden layers of g and h.
    width : int, default=64
        Dimension in which the inner product is taken.
    temperature : float, default=1.0
        :math:`\tau`. The scores that training starts from do not depend on it; with larger values
        they follow a change of g and h less.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.critics import SeparableCritic
    >>> from sknoisydim.noise import GaussianNoise
    >>> channel = GaussianNoise(0.5).build(n_components=4, batch_size=10)
    >>> critic = SeparableCritic().build(4, channel, torch.Generator().manual_seed(0))
    >>> critic(torch.zeros(10, 4), torch.zeros(10, 4)).shape
    torch.Size([10, 10])
    """

    def __init__(
        self,
        hidden_layer_sizes: Sequence[int] = (128,),
        width: int = 64,
        temperature: float = 1.0,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.width = width
        self.temperature = temperature

    @own_context()
    def build(self, n_components: int, channel: Any, generator: torch.Generator) -> nn.Module:
        """Return the module: views (n, d), noisy embeddings (n, d) -> scores (n, n), in nats.

        Of `channel`, its `scale` is used.

        Raises
        ------
        ValueError, TypeError
            If a size or `width` is no integer >= 1, or `temperature` no number > 0.
        """
        hidden = [
            check_integer(size, "critic hidden_layer_sizes", minimum=1)
            for size in self.hidden_layer_sizes
        ]
        width = check_integer(self.width, "critic width", minimum=1)
        temperature = check_real(
            self.temperature, "critic temperature", minimum=0, closed="neither"
        )
        # Both towers start as one linear map A, with A'A close to I / (noise variance + SPREAD), as
        # in the exact critic for views that far from their rows. Bounds then start near their value
        # instead of some nats below zero.
        first = linear(n_components, width, generator, bias=False)
        limit = math.sqrt(3 * temperature / width / (channel.scale**2 + SPREAD))
        nn.init.uniform_(first.weight, -limit, limit, generator=generator)
        view, noisy = (
            _Tower(copy.deepcopy(first), mlp(n_components, hidden, width, generator))
            for _ in range(2)
        )
        return _Separable(view, noisy, temperature)
