"""Channels: the noise that is added to a normalised embedding, and what it lets through."""

from ._base import AUTO_SHARE
from ._gaussian import GaussianChannel, GaussianNoise, auto_scale
from ._table import NOISES, resolve_noise
from ._uniform import UniformChannel, UniformNoise, auto_levels

__all__ = [
    "AUTO_SHARE",
    "NOISES",
    "GaussianChannel",
    "GaussianNoise",
    "UniformChannel",
    "UniformNoise",
    "auto_levels",
    "auto_scale",
    "resolve_noise",
]
