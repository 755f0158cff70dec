"""Channels: the noise that is added to a normalised embedding, and what it lets through."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.base import BaseEstimator

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer, check_real, is_auto, resolve

__all__ = [
    "AUTO_SHARE",
    "NOISES",
    "GaussianChannel",
    "GaussianNoise",
    "UniformChannel",
    "UniformNoise",
    "auto_scale",
]

# Share of log(batch size), which is all that InfoNCE can show, that a capacity takes with "auto".
AUTO_SHARE = 0.8
# Sizes of noise whose squares float32 holds, as it does those of many components of such noise.
SMALLEST, LARGEST = 1e-18, 1e18


def _size(value: object, name: str) -> float:
    return check_real(value, name, minimum=SMALLEST, maximum=LARGEST, also="'auto'")


def _nats(n_components: int, batch_size: int) -> float:
    n_components = check_integer(n_components, "n_components", minimum=1)
    batch_size = check_integer(batch_size, "batch_size", minimum=2)
    return AUTO_SHARE * math.log(batch_size) / n_components


def auto_scale(n_components: int, batch_size: int) -> float:
    r"""Return the noise scale whose capacity a batch can just show, relative to unit variance.

    It solves :math:`\frac{d}{2} \log(1 + \sigma^{-2}) = 0.8 \log B`.

    Parameters
    ----------
    n_components : int
        Number d of components, at least 1.
    batch_size : int
        Rows B of a batch, at least 2.

    Returns
    -------
    scale : float
        Standard deviation :math:`\sigma` of the noise.

    Raises
    ------
    TypeError, ValueError
        If a parameter is no integer, or too small.
    """
    return 1 / math.sqrt(math.expm1(2 * _nats(n_components, batch_size)))


@dataclass(eq=False)
class _Channel:
    """What channels have in common."""

    #: Whether `log_ratio` has a gradient to train by, so that no critic has to be learned.
    exact: ClassVar[bool] = True

    n_components: int

    def transmit(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Add noise to embeddings.

        Parameters
        ----------
        clean : Tensor of shape (n, d)
            Normalised embeddings.
        generator : torch.Generator
            Of the noise, on the device of `clean`.

        Returns
        -------
        noisy : Tensor of shape (n, d)
            The output y of the channel.
        """
        raise NotImplementedError  # each subclass has its own

    def sample_input(self, n_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Draw embeddings of the distribution that reaches the capacity.

        Parameters
        ----------
        n_samples : int
            How many.
        generator : torch.Generator
            Of the draws, with their device.

        Returns
        -------
        clean : Tensor of shape (n_samples, d)
            For Gaussian noise draws of N(0, I); for uniform noise of the grid, with its ends moved
            inwards by 1 % of a cell, since their normal quantiles are infinite.
        """
        raise NotImplementedError  # each subclass has its own


@dataclass(eq=False)
class GaussianChannel(_Channel):
    r"""Additive Gaussian noise, :math:`y = f(x) + \sigma \varepsilon`; see `GaussianNoise`.

    Parameters
    ----------
    n_components : int
        Number d of components.
    scale : float
        Standard deviation :math:`\sigma` of the noise.
    """

    scale: float

    @property
    def capacity(self) -> float:
        """Capacity in nats."""
        return 0.5 * self.n_components * math.log1p(self.scale**-2)

    def transmit(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.empty_like(clean).normal_(generator=generator)
        return torch.add(clean, noise, alpha=self.scale)

    def sample_input(self, n_samples: int, generator: torch.Generator) -> torch.Tensor:
        shape, device = (n_samples, self.n_components), generator.device
        return torch.randn(shape, generator=generator, device=device, dtype=torch.float32)

    @own_context(gradients=False)
    def log_ratio(
        self, clean: torch.Tensor, noisy: torch.Tensor, spread: torch.Tensor | None = None
    ) -> torch.Tensor:
        r"""Return the log density ratio of each noisy row to each clean row.

        .. math:: T_{ij} = \log p(y_i \mid f_j) - \log p^*(y_i)

        with :math:`p(y \mid f) = N(f, \sigma^2 I)`, and at capacity
        :math:`p^* = N(0, (1 + \sigma^2) I)`.

        Parameters
        ----------
        clean : Tensor of shape (m, d)
            Embeddings f without noise.
        noisy : Tensor of shape (n, d)
            Embeddings y with noise.
        spread : Tensor of shape (d,) or None, default=None
            Of a view about its row: variances that are added to the noise's.

        Returns
        -------
        scores : Tensor of shape (n, m)
            In nats.
        """
        # |y - f|^2 as one matrix product: no (n, m, d) array, and no square root to differentiate.
        # It cancels: an error of eps * d / scale^2 nats, too much for float32 below this scale.
        work = torch.float64 if self.scale < 0.02 else clean.dtype
        f, y = clean.to(work), noisy.to(work)
        output = 1 + self.scale**2
        precision: Any = self.scale**-2  # plain numbers where they do: small tensors cost time
        constant: Any = self.capacity
        if spread is not None:
            precision = 1 / (self.scale**2 + spread.to(work))
            constant = 0.5 * torch.log(output * precision).sum()
        f_term = constant - 0.5 * (f.square() * precision).sum(1)
        y_term = -0.5 * (y.square() * (precision - 1 / output)).sum(1, keepdim=True)
        return torch.addmm(f_term, y * precision, f.T).add_(y_term).to(clean.dtype)


class _Noise(BaseEstimator):
    """What noises have in common."""

    def build(self, n_components: int, batch_size: int) -> Channel:
        """Return the channel.

        Parameters
        ----------
        n_components : int
            Number of components of the embedding, at least 1.
        batch_size : int
            Rows of a batch that are really used, at least 2.

        Returns
        -------
        channel : GaussianChannel or UniformChannel
            With `transmit`, `log_ratio` and `capacity`.

        Raises
        ------
        TypeError, ValueError
            If one of these is too small, or the size of the noise is not from 1e-18 to 1e18.
        """
        raise NotImplementedError  # each subclass has its own


class GaussianNoise(_Noise):
    r"""Gaussian channel: noise N(0, :math:`\sigma^2 I`) on an embedding with unit variance.

    Its capacity, :math:`\frac{d}{2} \log(1 + \sigma^{-2})` nats for d components, is reached by
    N(0, I) alone (Butakov et al., arXiv:2410.06993).

    Parameters
    ----------
    scale : "auto" or float, default="auto"
        Standard deviation :math:`\sigma` of the noise. "auto" takes the capacity that a batch can
        just show, 0.8 log(batch size): see `auto_scale`.
    """

    def __init__(self, scale: float | str = "auto") -> None:
        self.scale = scale

    def build(self, n_components: int, batch_size: int) -> GaussianChannel:
        auto = auto_scale(n_components, batch_size)
        scale = auto if is_auto(self.scale) else _size(self.scale, "noise")
        return GaussianChannel(n_components, scale)


# Log density ratio where there is no noise: exp of it is zero, and sums of it are still numbers.
NEVER = -1e4
# How far from 0 and 1 the ends of the grid lie, in cells.
END = 0.01
# Cells of the grid, at most: with more, it is U[0, 1].
MAX_CELLS = 10_000


def auto_levels(n_components: int, batch_size: int) -> int:
    """Return the number of cells 1/2e, at least 2, of the grid that a batch can just show.

    It makes the capacity d log(1 + 1/2e) as close to 0.8 log B as can be.
    """
    nats = _nats(n_components, batch_size)
    below = max(2, math.floor(math.expm1(nats)))
    return min(below, below + 1, key=lambda levels: abs(math.log1p(levels) - nats))


@dataclass(eq=False)
class UniformChannel(_Channel):
    r"""Additive uniform noise on a bounded head, :math:`y = \Phi(z) + u`; see `UniformNoise`.

    z is the embedding whose target is N(0, I), :math:`\Phi` the normal distribution function by
    component, so that :math:`\Phi(z)` lies in the unit cube, and u uniform on :math:`[-e, e]^d`.

    Parameters
    ----------
    n_components : int
        Number d of components.
    half_width : float
        e, half the width of the noise.
    """

    exact: ClassVar[bool] = False

    half_width: float

    @property
    def scale(self) -> float:
        """2e, the standard deviation of the noise over that of U[0, 1]: what critics start from."""
        return 2 * self.half_width

    @property
    def capacity(self) -> float:
        """Capacity in nats."""
        return self.n_components * math.log1p(1 / self.scale)

    def _grid(self) -> NDArray[np.float64]:
        """Return the normal quantiles of the grid, where 1/2e is an integer; else of one near."""
        cells = min(max(1, math.floor(1 / self.scale + 1e-9)), MAX_CELLS)
        return ndtri(np.r_[END, np.arange(1, cells), cells - END] / cells)

    @property
    def deviation(self) -> float:
        """Standard deviation that a component of z is normalised to: 2.1 for a grid of 3 points."""
        return float(np.sqrt(np.square(self._grid()).mean()))

    def transmit(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        e = self.half_width
        noise = torch.empty_like(clean).uniform_(-e, e, generator=generator)
        return torch.special.ndtr(clean) + noise

    def sample_input(self, n_samples: int, generator: torch.Generator) -> torch.Tensor:
        grid = torch.as_tensor(self._grid(), device=generator.device, dtype=torch.float32)
        shape = (n_samples, self.n_components)
        cells = torch.randint(len(grid), shape, generator=generator, device=generator.device)
        return grid[cells]

    def for_critic(
        self, view: torch.Tensor, noisy: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a view and a noisy embedding as critics want them: of mean 0 and variance 1.

        Parameters
        ----------
        view, noisy : Tensor of shape (n, d)
            Embedding z of a view, and an output y of the channel.

        Returns
        -------
        view, noisy : Tensor of shape (n, d)
            With noise of the standard deviation `scale`.
        """
        unit = math.sqrt(12)
        return unit * (torch.special.ndtr(view) - 0.5), unit * (noisy - 0.5)

    @own_context(gradients=False)
    def log_ratio(self, clean: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        r"""Return the log density ratio of each noisy row to each clean row; it has no gradient.

        .. math:: T_{ij} = \log p(y_i \mid z_j) - \log p^*(y_i)

        with :math:`p(y \mid z)` uniform on the box of half width e about :math:`\Phi(z)`, and
        :math:`p^*` on :math:`[-e, 1 + e]^d`.

        Parameters
        ----------
        clean : Tensor of shape (m, d)
            Embeddings z without noise.
        noisy : Tensor of shape (n, d)
            y, from `transmit`.

        Returns
        -------
        scores : Tensor of shape (n, m)
            In nats: the capacity where y is in the box, -10,000 (for minus infinity) elsewhere.
        """
        f = torch.special.ndtr(clean)
        # What was added and is taken away again differs by a rounding or two.
        reach = self.half_width + 4 * torch.finfo(f.dtype).eps
        inside = torch.cdist(noisy, f, p=math.inf) <= reach
        return f.new_full(inside.shape, NEVER).masked_fill_(inside, self.capacity)


class UniformNoise(_Noise):
    r"""Uniform channel: noise :math:`U[-e, e]^d` on an embedding in the unit cube.

    The paper's own channel for a uniform distribution (Butakov et al., arXiv:2410.06993), for one
    or two components. Its capacity, :math:`d \log(1 + 1/2e)` nats, is reached where 1/2e is an
    integer, by the uniform distribution on the grid :math:`\{0, 2e, \dots, 1\}^d` alone, which
    comes close to :math:`U[0, 1]^d` when e is small. Use it with ``target="uniform"``. A fit learns
    a critic for all terms of the objective, since the density of the noise has no gradient.

    `build` warns where :math:`d \log 3 > \log B` (d = 6 at B = 512): a batch of B rows cannot show
    a grid with a point inside the cube. Take `GaussianNoise` and ``target="uniform"`` there.

    Parameters
    ----------
    half_width : "auto" or float, default="auto"
        e, > 0. "auto" takes an integer 1/2e >= 2, for a capacity close to 0.8 log(batch size).
    """

    def __init__(self, half_width: float | str = "auto") -> None:
        self.half_width = half_width

    def build(self, n_components: int, batch_size: int) -> UniformChannel:
        levels = auto_levels(n_components, batch_size)
        if not is_auto(self.half_width):
            return UniformChannel(n_components, _size(self.half_width, "half_width"))
        channel = UniformChannel(n_components, 0.5 / levels)
        if channel.capacity > math.log(batch_size):
            warnings.warn(
                f"uniform noise on {n_components} components passes {channel.capacity:.1f} nats "
                f"at its strongest (1/2e = 2), and a batch of {batch_size} rows shows "
                f"{math.log(batch_size):.1f} at most: the joint distribution will not match. Use "
                "noise='auto' (GaussianNoise) with target='uniform', fewer components, or a "
                "larger batch_size.",
                UserWarning,
                stacklevel=2,
            )
        return channel


Channel = GaussianChannel | UniformChannel

NOISES: Mapping[str, type] = {"gaussian": GaussianNoise, "uniform": UniformNoise}


def resolve_noise(noise: object) -> BaseEstimator:
    """Return the component that a value of the parameter `noise` stands for."""
    if isinstance(noise, numbers.Real):
        return GaussianNoise(_size(noise, "noise"))
    return resolve(noise, {"auto": GaussianNoise, **NOISES}, "noise", also=["a number > 0"])
