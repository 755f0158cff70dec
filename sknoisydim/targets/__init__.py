"""The distributions that embeddings can have, each an invertible map of N(0, I)."""

from ._base import Target
from ._independent import TARGETS, Independent
from ._joint import MultivariateNormal, PushForward
from ._product import Normal, Uniform
from ._resolve import resolve_target
from ._shells import SphericalShell, UniformBall

__all__ = [
    "TARGETS",
    "Independent",
    "MultivariateNormal",
    "Normal",
    "PushForward",
    "SphericalShell",
    "Target",
    "Uniform",
    "UniformBall",
    "resolve_target",
]
