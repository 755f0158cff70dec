"""The distributions that embeddings can have, each an invertible map of N(0, I)."""

from sknoisydim.targets._base import Normal, Uniform
from sknoisydim.targets._independent import resolve_target
from sknoisydim.targets._joint import SphericalShell, UniformBall

from ._base import Target
from ._independent import TARGETS, Independent
from ._joint import MultivariateNormal, PushForward

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
