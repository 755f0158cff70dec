"""What every kind of noise can say of itself before there is a fit."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import BaseEstimator

from sknoisydim._context import own_context
from sknoisydim._isolation import draw_seed, make_generator
from sknoisydim._validation import check_integer, check_real

# Share of log(batch size) that the capacity takes when the size of the noise is "auto": InfoNCE
# cannot show more than log(batch size) nats, and a channel with more than that is never filled.
AUTO_SHARE = 0.8
# Batch size that "auto" stands for where none is named: that of the transformer.
BATCH_SIZE = 512
# Sizes of noise whose squares float32 holds, as it does those of many components of such noise.
SMALLEST, LARGEST = 1e-18, 1e18


def check_scale(value: Any, name: str) -> float:
    """Return the size of the noise as a float that its channel can work with."""
    scale = check_real(value, name, minimum=0, closed="neither")
    return check_real(scale, name, minimum=SMALLEST, maximum=LARGEST)


class Noise(BaseEstimator):
    """Noise of one kind; `build` makes the channel of a fit from it."""

    def build(self, n_components: int, batch_size: int) -> Any:
        """Return a new channel, for `n_components` and the batch size really used."""
        raise TypeError(f"{type(self).__name__} does not say which channel it makes.")

    @own_context(gradients=False)
    def capacity(self, n_components: int, batch_size: int = BATCH_SIZE) -> float:
        """Return the capacity of the channel in nats.

        Parameters
        ----------
        n_components : int
            Number d of components.
        batch_size : int, default=512
            Rows in a batch, which "auto" goes by.

        Returns
        -------
        capacity : float
            In nats.

        Examples
        --------
        >>> from sknoisydim.noise import GaussianNoise, UniformNoise
        >>> round(GaussianNoise(0.5).capacity(2), 3), round(UniformNoise(0.125).capacity(2), 3)
        (1.609, 3.219)
        """
        return float(self.build(n_components, batch_size).capacity)

    @own_context(gradients=False)
    def sample(
        self,
        n_samples: int,
        n_components: int,
        random_state: Any = None,
        batch_size: int = BATCH_SIZE,
    ) -> torch.Tensor:
        """Draw noise.

        Parameters
        ----------
        n_samples : int
            Rows to draw, at least 1.
        n_components : int
            Number d of components.
        random_state : int, RandomState instance or None, default=None
            The same seed draws the same noise.
        batch_size : int, default=512
            Rows in a batch, which "auto" goes by.

        Returns
        -------
        noise : Tensor of shape (n_samples, n_components)
            Of float32.

        Examples
        --------
        >>> from sknoisydim.noise import UniformNoise
        >>> noise = UniformNoise(0.125).sample(100, 2, random_state=0)
        >>> noise.shape, bool(noise.abs().max() <= 0.125)
        (torch.Size([100, 2]), True)
        """
        check_integer(n_samples, "n_samples", minimum=1)
        channel = self.build(n_components, batch_size)
        noise: torch.Tensor = channel.sample(n_samples, make_generator(draw_seed(random_state)))
        return noise

    @own_context(gradients=False)
    def log_prob(self, noise: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """Return the log density of noise vectors.

        Parameters
        ----------
        noise : Tensor of shape (n, d)
            Noise vectors.
        batch_size : int, default=512
            Rows in a batch, which "auto" goes by.

        Returns
        -------
        log_density : Tensor of shape (n,)
            In nats; minus infinity outside the support of the noise.

        Examples
        --------
        >>> import torch
        >>> from sknoisydim.noise import UniformNoise
        >>> UniformNoise(0.25).log_prob(torch.tensor([[0.2], [0.3]])).tolist()
        [0.6931471824645996, -inf]
        """
        density: torch.Tensor = self.build(noise.shape[-1], batch_size).log_prob(noise)
        return density
