"""The Gaussian channel: normal noise, and an embedding of zero mean and unit variance."""

from __future__ import annotations

import math
from typing import Any

import torch

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer

from ._base import AUTO_SHARE, Noise, check_scale


def auto_scale(n_components: int, batch_size: int) -> float:
    r"""Return the noise scale whose capacity a batch can just show.

    .. math:: \sigma^2 = \frac{1}{\exp(2 \cdot 0.8 \log(B) / d) - 1}

    solves :math:`\frac{d}{2} \log(1 + \sigma^{-2}) = 0.8 \log B` for d components and a
    batch of B rows.

    Parameters
    ----------
    n_components : int
        Number d of components.
    batch_size : int
        Number B of rows in a batch, at least 2.

    Returns
    -------
    scale : float
        Standard deviation of the noise, relative to a unit-variance embedding.

    Examples
    --------
    >>> round(auto_scale(2, 512), 2), round(auto_scale(16, 512), 2)
    (0.08, 1.07)
    """
    return _scale_of(AUTO_SHARE * math.log(batch_size), n_components)


def _scale_of(capacity: float, n_components: int) -> float:
    """Return the noise scale of this capacity."""
    return 1 / math.sqrt(math.expm1(2 * capacity / n_components))


class GaussianChannel:
    r"""Additive Gaussian noise, :math:`y = f(x) + \sigma \varepsilon`.

    Among the inputs with zero mean and unit variance per component, N(0, I) alone reaches the
    capacity :math:`\frac{d}{2} \log(1 + \sigma^{-2})`.

    Parameters
    ----------
    n_components : int
        Number d of components.
    scale : float
        Standard deviation :math:`\sigma`.
    """

    #: `log_ratio` has a gradient to train by: no critic has to be learned.
    exact = True

    def __init__(self, n_components: int, scale: float) -> None:
        self.n_components = n_components
        self.scale = scale

    @property
    def capacity(self) -> float:
        """Capacity in nats."""
        return 0.5 * self.n_components * math.log1p(self.scale**-2)

    def transmit(self, clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return `clean` (n, d) with noise drawn from `generator`."""
        noise = torch.empty_like(clean).normal_(generator=generator)
        return torch.add(clean, noise, alpha=self.scale)

    def sample(self, n_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Return noise (n_samples, d) of float32."""
        noise = torch.empty(
            n_samples, self.n_components, device=generator.device, dtype=torch.float32
        )
        return noise.normal_(std=self.scale, generator=generator)

    def sample_input(self, n_samples: int, generator: torch.Generator) -> torch.Tensor:
        """Return draws (n_samples, d) of the embedding that reaches the capacity, N(0, I)."""
        clean = torch.empty(
            n_samples, self.n_components, device=generator.device, dtype=torch.float32
        )
        return clean.normal_(generator=generator)

    def log_prob(self, noise: torch.Tensor) -> torch.Tensor:
        """Return the log density (n,) of noise vectors (n, d), in nats."""
        constant = self.n_components * math.log(self.scale * math.sqrt(2 * math.pi))
        return -0.5 * (noise / self.scale).square().sum(-1) - constant

    @own_context(gradients=False)
    def log_ratio(
        self, clean: torch.Tensor, noisy: torch.Tensor, spread: torch.Tensor | None = None
    ) -> torch.Tensor:
        r"""Return the log density ratio of each noisy row to each clean row.

        .. math:: T_{ij} = \log p(y_i \mid f_j) - \log p^*(y_i)

        where :math:`p(y \mid f) = N(f, \sigma^2 I)`, and :math:`p^* = N(0, (1 + \sigma^2) I)` is
        the distribution of the output at capacity.

        Parameters
        ----------
        clean : Tensor of shape (m, d)
            Embeddings f without noise.
        noisy : Tensor of shape (n, d)
            Embeddings y with noise.
        spread : Tensor of shape (d,), optional
            Variance per component that is added to the noise's (of a view about its row).

        Returns
        -------
        ratios : Tensor of shape (n, m)
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


class GaussianNoise(Noise):
    r"""Gaussian channel: noise N(0, :math:`\sigma^2 I`) on an embedding with unit variance.

    Its capacity, :math:`\frac{d}{2} \log(1 + \sigma^{-2})` nats for d components, is reached by
    N(0, I) alone, so information pressed through it makes the embedding normal.

    Parameters
    ----------
    scale : "auto" or float, default="auto"
        Standard deviation :math:`\sigma` of the noise. "auto" takes the capacity that a batch can
        just show, 0.8 log(batch size): see `auto_scale`.

    References
    ----------
    I. Butakov et al., "Efficient Distribution Matching of Representations via Noise-Injected
    Deep InfoMax", ICLR 2025, arXiv:2410.06993.

    Examples
    --------
    >>> from sknoisydim.noise import GaussianNoise
    >>> channel = GaussianNoise(scale=0.5).build(n_components=2, batch_size=512)
    >>> round(channel.capacity, 3)
    1.609
    """

    def __init__(self, scale: float | str = "auto") -> None:
        self.scale = scale

    def build(self, n_components: int, batch_size: int) -> GaussianChannel:
        """Return the channel for `n_components` and the batch size really used.

        Raises
        ------
        ValueError, TypeError
            If `scale` is neither "auto" nor a number > 0 whose square is one of float32.
        """
        check_integer(n_components, "n_components", minimum=1)
        check_integer(batch_size, "batch_size", minimum=2)
        if isinstance(self.scale, str):
            if self.scale != "auto":
                raise ValueError(
                    f"noise={self.scale!r} is unknown; it takes 'auto' or a number > 0."
                )
            return GaussianChannel(n_components, auto_scale(n_components, batch_size))
        scale = check_scale(self.scale, "noise")
        return GaussianChannel(n_components, scale)
