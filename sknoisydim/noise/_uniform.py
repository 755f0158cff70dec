"""The uniform channel: uniform noise, and an embedding in the unit cube."""

from __future__ import annotations

import math
import statistics
import warnings

import torch

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer

from ._base import AUTO_SHARE, Noise, check_scale

# Log density ratio where there is no noise: exp of it is zero, and sums of it are still numbers.
NEVER = -1e4
# How far from 0 and 1 the ends of the grid lie, in cells. They cannot be there: their normal
# quantiles are infinite.
END = 0.01
# Cells that normal quantiles are worked out for, at most: with more, the grid is U[0, 1].
MAX_CELLS = 10_000


def auto_levels(n_components: int, batch_size: int) -> int:
    r"""Return the number of cells 1/2e of the grid whose capacity a batch can just show.

    .. math:: k = \max(2, [B^{0.8 / d}] - 1)

    makes :math:`d \log(1 + k)` close to :math:`0.8 \log B` for d components and a batch of B rows.
    Of the two integers around the real solution the one with the closer capacity is taken.

    Parameters
    ----------
    n_components : int
        Number d of components.
    batch_size : int
        Number B of rows in a batch, at least 2.

    Returns
    -------
    levels : int
        1/2e, at least 2: with one cell, the grid is the corners of the cube.

    Examples
    --------
    >>> auto_levels(1, 512), auto_levels(2, 512), auto_levels(16, 512)
    (146, 11, 2)
    """
    nats = AUTO_SHARE * math.log(batch_size) / n_components
    below = max(2, math.floor(math.expm1(nats)))
    return min(below, below + 1, key=lambda levels: abs(math.log1p(levels) - nats))


class UniformChannel:
    r"""Additive uniform noise on a bounded head, :math:`y = \Phi(z) + u`.

    z is the normal-space embedding, :math:`\Phi` the normal distribution function by component,
    and u uniform on :math:`[-e, e]^d`. The head :math:`f = \Phi(z)` lies in the unit cube. Of all
    such inputs none passes more than :math:`d \log(1 + 1/2e)` nats, and where 1/2e is an integer
    the uniform distribution on the grid :math:`\{0, 2e, 4e, \dots, 1\}^d` alone passes as much.

    Parameters
    ----------
    n_components : int
        Number d of components.
    half_width : float
        :math:`e`.

    Attributes
    ----------
    scale : float
        2e, the standard deviation of the noise over that of U[0, 1]: what critics start from.
    deviation : float
        Standard deviation that a component of z is normalised to. That of the normal quantiles of
        the grid, so that the normalisation does not stand in the grid's way: 2.1 for a grid of 3
        points, and close to 1 where there are many.
    """

    #: `log_ratio` is for measuring: it has no gradient, so training takes a learned critic.
    exact = False

    def __init__(self, n_components: int, half_width: float) -> None:
        self.n_components = n_components
        self.half_width = half_width

    @property
    def scale(self) -> float:
        """Standard deviation of the noise over that of U[0, 1]."""
        return 2 * self.half_width

    @property
    def capacity(self) -> float:
        """Capacity in nats."""
        return self.n_components * math.log1p(1 / self.scale)

    def _grid(self) -> list[float]:
        """Return the normal quantiles of the grid, where 1/2e is an integer; else of one near."""
        cells = min(max(1, math.floor(1 / self.scale + 1e-9)), MAX_CELLS)
        shares = [j / cells for j in range(1, cells)]
        inner = [statistics.NormalDist().inv_cdf(share) for share in shares]
        end = statistics.NormalDist().inv_cdf(1 - END / cells)
        return [-end, *inner, end]

    @property
    def deviation(self) -> float:
        """Standard deviation that a component is normalised to."""
        grid = self._grid()
        return math.sqrt(math.fsum(z * z for z in grid) / len(grid))

    def transmit(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the head of `clean` (n, d) with noise drawn from `generator`, in [-e, 1 + e]."""
        e = self.half_width
        noise = torch.empty_like(clean).uniform_(-e, e, generator=generator)
        return torch.special.ndtr(clean) + noise

    def sample(self, n_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Return noise (n_samples, d) of float32."""
        e = self.half_width
        noise = torch.empty(
            n_samples, self.n_components, device=generator.device, dtype=torch.float32
        )
        return noise.uniform_(-e, e, generator=generator)

    def sample_input(self, n_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Return draws (n_samples, d) of the normal-space grid that reaches the capacity.

        It does so where 1/2e is an integer, but for the ends: they are 1 % of a cell inside.
        """
        grid = torch.tensor(self._grid(), device=generator.device, dtype=torch.float32)
        shape = (n_samples, self.n_components)
        cells = torch.randint(len(grid), shape, generator=generator, device=generator.device)
        return grid[cells]

    def log_prob(self, noise: torch.Tensor) -> torch.Tensor:
        """Return the log density (n,) of noise vectors (n, d), in nats; -inf where none is."""
        inside = (noise.abs() <= self.half_width).all(-1)
        density = noise.new_full(noise.shape[:-1], -math.inf)
        return density.masked_fill(inside, -self.n_components * math.log(self.scale))

    def for_critic(
        self, view: torch.Tensor, noisy: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Return a view and a noisy embedding as critics want them: of mean 0 and variance 1.

        .. math:: \sqrt{12} \, (\Phi(z) - 1/2), \qquad \sqrt{12} \, (y - 1/2)

        have them for U[0, 1], and the noise then has the standard deviation `scale`.
        """
        unit = math.sqrt(12)
        return unit * (torch.special.ndtr(view) - 0.5), unit * (noisy - 0.5)

    @own_context(gradients=False)
    def log_ratio(self, clean: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        r"""Return the log density ratio of each noisy row to each clean row.

        .. math:: T_{ij} = \log p(y_i \mid z_j) - \log p^*(y_i)

        with :math:`p(y \mid z)` uniform on the box of half width e about :math:`\Phi(z)`, and
        :math:`p^*` on :math:`[-e, 1 + e]^d`, the distribution of the output at capacity: the
        capacity where y is in the box, and -10,000 in place of minus infinity elsewhere.

        Parameters
        ----------
        clean : Tensor of shape (m, d)
            Normal-space embeddings z without noise.
        noisy : Tensor of shape (n, d)
            Embeddings y with noise, from `transmit`.

        Returns
        -------
        ratios : Tensor of shape (n, m)
            In nats; without a gradient.
        """
        f = torch.special.ndtr(clean)
        # What was added and is taken away again differs by a rounding or two.
        reach = self.half_width + 4 * torch.finfo(f.dtype).eps
        inside = torch.ones(len(noisy), len(f), dtype=torch.bool, device=f.device)
        for of_noisy, of_clean in zip(noisy.T, f.T, strict=True):
            inside &= (of_noisy[:, None] - of_clean).abs_() <= reach
        return f.new_full(inside.shape, NEVER).masked_fill_(inside, self.capacity)


class UniformNoise(Noise):
    r"""Uniform channel: noise :math:`U[-e, e]^d` on an embedding in the unit cube.

    The paper's own channel for a uniform distribution, for one or two components. Its capacity,
    :math:`d \log(1 + 1/2e)` nats, is reached by the uniform distribution on the grid
    :math:`\{0, 2e, \dots, 1\}^d`, which comes close to :math:`U[0, 1]^d` when e is small. Use it
    with ``target="uniform"``: the embedding is then what the noise was added to. A fit learns a
    critic for all terms of the objective, since the density of the noise is a box, which has no
    gradient.

    What a batch of B rows can show, log B nats, is shared by the components: from
    :math:`d \log 3 > \log B` on (d = 6 at B = 512) no grid with a point inside the cube can be
    shown. For more components, `GaussianNoise` with ``target="uniform"`` gives a uniform
    distribution.

    Parameters
    ----------
    half_width : "auto" or float, default="auto"
        e, > 0. "auto" takes 1/2e an integer, at least 2, with a capacity as close to
        0.8 log(batch size) as can be: see `auto_levels`.

    References
    ----------
    I. Butakov et al., "Efficient Distribution Matching of Representations via Noise-Injected
    Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from sknoisydim.noise import UniformNoise
    >>> channel = UniformNoise().build(n_components=2, batch_size=512)
    >>> round(1 / (2 * channel.half_width)), round(channel.capacity, 3)
    (11, 4.970)
    """

    def __init__(self, half_width: float | str = "auto") -> None:
        self.half_width = half_width

    def build(self, n_components: int, batch_size: int) -> UniformChannel:
        """Return the channel for `n_components` and the batch size really used.

        Raises
        ------
        ValueError, TypeError
            If `half_width` is neither "auto" nor a number > 0 whose square is one of float32.

        Warns
        -----
        UserWarning
            With "auto", if even 1/2e = 2 has a larger capacity than a batch can show.
        """
        check_integer(n_components, "n_components", minimum=1)
        check_integer(batch_size, "batch_size", minimum=2)
        if not isinstance(self.half_width, str):
            half_width = check_scale(self.half_width, "half_width")
            return UniformChannel(n_components, half_width)
        if self.half_width != "auto":
            raise ValueError(
                f"half_width={self.half_width!r} is unknown; it takes 'auto' or a number > 0."
            )
        channel = UniformChannel(n_components, 0.5 / auto_levels(n_components, batch_size))
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
