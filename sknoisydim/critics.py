"""Critics: how well a view and a noisy embedding fit together.

Where a module says `by_pair = True`, a score depends on its pair alone, and a fit in several
processes passes each some of the noisy embeddings.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from sklearn.base import BaseEstimator
from torch import nn
from torch.utils.checkpoint import checkpoint

from sknoisydim._context import own_context, own_forward
from sknoisydim._modules import linear, mlp
from sknoisydim._validation import check_integer, check_real, check_sizes, resolve

__all__ = ["CRITICS", "BilinearCritic", "ConcatCritic", "ExactCritic", "SeparableCritic"]

# Variance of a view about its row, per component of unit variance, that critics start from.
SPREAD = 0.2
# Weight of the past in the running spread of views: some ten batches, as the encoder moves on.
DECAY = 0.9
# Change of a learned log precision per unit of its parameter: 2 % in a step of 0.002.
GAIN = 10.0


class Channel(Protocol):
    @property
    def scale(self) -> float: ...
    @property
    def log_ratio(self) -> Callable[..., torch.Tensor]: ...


class _Exact(nn.Module):
    def __init__(self, channel: Channel, n_components: int) -> None:
        super().__init__()
        self.channel = channel
        # E |f(X') - f(X)|^2 per component; NaN before the first batch.
        self.spread = nn.Buffer(torch.full((n_components,), math.nan, dtype=torch.float32))

    def _observe(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        # Noise is independent of view and row, so E |f(X) + Z - f(X')|^2 exceeds the spread by its
        # variance. Below zero by chance, so it is clamped after averaging, not before.
        spread = (noisy - view).detach().square().mean(0) - self.channel.scale**2
        past = torch.where(self.spread.isnan(), spread, self.spread)
        return self.spread.copy_(torch.lerp(spread, past, DECAY)) if self.training else past

    @own_forward
    def forward(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        spread = self._observe(view, noisy).clamp(0, 2)
        # f(X) is about r f(X'), and varies about that by 1 - r^2, where both have unit variance and
        # correlation r, so that the spread is 2 (1 - r).
        correlation = 1 - spread / 2
        return self.channel.log_ratio(correlation * view, noisy, spread=spread * (1 - spread / 4))


class _Critic(BaseEstimator):
    """What critics have in common."""

    def build(self, n_components: int, channel: Channel, generator: torch.Generator) -> nn.Module:
        """Return the module.

        Parameters
        ----------
        n_components : int
            Number d of components of the embedding.
        channel : object
            Of `sknoisydim.noise`. All use its `scale`, `ExactCritic` also its `log_ratio`.
        generator : torch.Generator
            What the first weights are drawn from.

        Returns
        -------
        critic : nn.Module
            Maps views (n, d) and noisy embeddings (n, d) to scores (n, n), a row per noisy one.

        Raises
        ------
        TypeError, ValueError
            If a parameter is not valid; by `ExactCritic`, if the noise's density has no gradient.
        """
        raise NotImplementedError  # described here once: each subclass has its own


class ExactCritic(_Critic):
    r"""The channel's own log density, with the spread of the view added to the noise variance.

    .. math:: T(x, y) = \log N(y; r \odot x, \operatorname{diag}(1 - r^2) + \sigma^2 I)
        - \log N(y; 0, (1 + \sigma^2) I), \qquad r_k = 1 - v_k / 2

    The spread :math:`v_k = E (f_k(X') - f_k(X))^2` is a running mean over the batches of training:
    the mean square of (noisy - view) of pairs that belong together, less :math:`\sigma^2`. The
    critic is optimal for jointly normal f(X) and f(X'), and without augmentation, where v is zero.
    It has no parameters, no gradient by v, and costs one matrix product.

    Use it where views stay close to their rows. The density of `UniformNoise` has no gradient.
    """

    @own_context()
    def build(self, n_components: int, channel: Channel, generator: torch.Generator) -> nn.Module:
        if not getattr(channel, "exact", True):
            raise ValueError(
                f"critic='exact' trains by the density of the noise, and that of a "
                f"{type(channel).__name__} has no gradient. Use critic='separable', 'bilinear' or "
                "'concat', or Gaussian noise (noise='auto')."
            )
        return _Exact(channel, n_components)


class QuadraticRatio(nn.Module):
    """Log density ratio of jointly normal pairs, with each coefficient a parameter.

    Starts as that of the channel, for views that vary about their rows by `SPREAD`.
    """

    def __init__(self, n_components: int, scale: float) -> None:
        super().__init__()
        self.output = 1 + scale**2
        self.start = -math.log(scale**2 + SPREAD)
        # The precision that is right may be a hundred times as large (little noise, no views), and
        # an optimizer moves a parameter by its learning rate per step: so its log, in large units.
        self.gain = nn.Parameter(torch.zeros((), dtype=torch.float32))
        self.product = nn.Parameter(torch.eye(n_components, dtype=torch.float32))
        self.view = nn.Parameter(torch.eye(n_components, dtype=torch.float32))
        self.noisy = nn.Parameter(torch.eye(n_components, dtype=torch.float32))
        self.constant = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def forward(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        log_precision = self.start + GAIN * self.gain
        precision = log_precision.exp()
        d = view.shape[1]
        constant = self.constant + 0.5 * d * (log_precision + math.log(self.output))
        of_view = constant - 0.5 * precision * ((view @ self.view) * view).sum(1)
        of_noisy = noisy.square().sum(1, keepdim=True) / self.output
        of_noisy = of_noisy - precision * ((noisy @ self.noisy) * noisy).sum(1, keepdim=True)
        return torch.addmm(of_view, precision * (noisy @ self.product), view.T) + 0.5 * of_noisy


def _temperature(value: float) -> float:
    return check_real(value, "critic temperature", minimum=0, closed="neither")


class _Tempered(nn.Module):
    by_pair = True

    def __init__(self, ratio: nn.Module, temperature: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.temperature = temperature

    @own_forward
    def forward(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        return self.ratio(view, noisy) / self.temperature


class BilinearCritic(_Critic):
    r"""Bilinear form plus a quadratic form of each side, with learned coefficients.

    .. math:: T(x, y) = \frac{1}{\tau} \left( y^T W x - \frac{1}{2} x^T A x - \frac{1}{2} y^T B y
        + c \right)

    The family of all density ratios of jointly normal pairs, so it comes close to the optimum as
    embeddings come close to N(0, I), with 3 d^2 + 2 parameters and one matrix product. The bilinear
    term alone (arXiv:1807.03748, equation 3) shows at most d / (2 (1 + s^2)) nats, with noise s.

    Parameters
    ----------
    temperature : float, default=1.0
        :math:`\tau`; larger values make flatter scores to start from.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = temperature

    @own_context()
    def build(self, n_components: int, channel: Channel, generator: torch.Generator) -> nn.Module:
        temperature = _temperature(self.temperature)
        return _Tempered(QuadraticRatio(n_components, channel.scale), temperature)


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


class SeparableCritic(_Critic):
    r"""Inner product of two small networks, :math:`T(x, y) = g(x) \cdot h(y) / \tau`.

    Costs 2n evaluations of a network and one matrix product for the n x n scores.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(128,)
        Widths of the hidden layers of g and h.
    width : int, default=64
        Dimension in which the inner product is taken.
    temperature : float, default=1.0
        :math:`\tau`. The scores that training starts from do not depend on it.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.critics import SeparableCritic
    >>> from sknoisydim.noise import GaussianNoise
    >>> critic = SeparableCritic().build(4, GaussianNoise(0.5).build(4, 32), torch.Generator())
    >>> critic(torch.zeros(10, 4), torch.zeros(10, 4)).shape
    torch.Size([10, 10])
    """

    def __init__(
        self, hidden_layer_sizes: Sequence[int] = (128,), width: int = 64, temperature: float = 1.0
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.width = width
        self.temperature = temperature

    @own_context()
    def build(self, n_components: int, channel: Channel, generator: torch.Generator) -> nn.Module:
        hidden = check_sizes(self.hidden_layer_sizes, "critic hidden_layer_sizes")
        temperature = _temperature(self.temperature)
        width = check_integer(self.width, "critic width", minimum=1)
        # Both towers start as one linear map A, with A'A close to I / (noise variance + SPREAD), as
        # in the exact critic for such views. Bounds then do not start some nats below zero.
        first = linear(n_components, width, generator, bias=False)
        limit = math.sqrt(3 * temperature / width / (channel.scale**2 + SPREAD))
        nn.init.uniform_(first.weight, -limit, limit, generator=generator)
        view, noisy = (
            _Tower(copy.deepcopy(first), mlp(n_components, hidden, width, generator))
            for _ in range(2)
        )
        return _Separable(view, noisy, temperature)


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
        return self.network((noisy[:, None] + view).relu()).squeeze(-1)

    @own_forward
    def forward(self, view: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        start: torch.Tensor = self.start(view, noisy)
        # A linear layer of two joined vectors is the sum of one of each: n products, not n^2.
        of_view, of_noisy = self.view(view), self.noisy(noisy)
        parts = of_noisy.split(max(1, CHUNK // of_view.numel()))
        pairs: Any = self._pairs
        if torch.is_grad_enabled() and len(parts) > 1:
            # Nothing in a chunk is random, so no state of a generator has to be kept.
            pairs = partial(checkpoint, pairs, use_reentrant=False, preserve_rng_state=False)
        return start + torch.cat([pairs(of_view, part) for part in parts])


class ConcatCritic(_Critic):
    """All pairs through one network, :math:`T(x, y) = T_0(x, y) + h([x, y])`.

    :math:`T_0` is the form of `BilinearCritic`, and h starts at zero. The most general critic
    (Belghazi et al., ICML 2018; Poole et al., ICML 2019, section 3), and the dearest: n^2
    evaluations of a network per batch, where a separable critic takes 2n.

    Memory is bounded: pairs are taken in chunks of rows, which the backward pass computes again. At
    the peak there are the n x n scores and layers of one chunk, 2^20 numbers each (4 MB).

    Parameters
    ----------
    hidden_layer_sizes : tuple of int, default=(64,)
        Widths of the hidden layers of h, at least one.
    """

    def __init__(self, hidden_layer_sizes: Sequence[int] = (64,)) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes

    @own_context()
    def build(self, n_components: int, channel: Channel, generator: torch.Generator) -> nn.Module:
        sizes = check_sizes(self.hidden_layer_sizes, "critic hidden_layer_sizes")
        if not sizes:
            raise ValueError("critic hidden_layer_sizes must name one layer at least, got none.")
        view = linear(n_components, sizes[0], generator)
        noisy = linear(n_components, sizes[0], generator, bias=False)  # that of the view will do
        network = mlp(sizes[0], sizes[1:], 1, generator)
        for parameter in network[-1].parameters():
            nn.init.zeros_(parameter)
        return _Concat(QuadraticRatio(n_components, channel.scale), view, noisy, network)


CRITICS: Mapping[str, type] = {
    "separable": SeparableCritic,
    "bilinear": BilinearCritic,
    "concat": ConcatCritic,
    "exact": ExactCritic,
}


def resolve_critic(critic: object) -> BaseEstimator:
    """Return the component that a value of the parameter `critic` stands for."""
    return resolve(critic, CRITICS, "critic")
