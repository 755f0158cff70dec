"""The distributions that embeddings can have, each an invertible map of N(0, I)."""

from sknoisydim.targets._base import Normal, Target, Uniform
from sknoisydim.targets._independent import TARGETS, Independent, resolve_target
from sknoisydim.targets._joint import MultivariateNormal, PushForward, SphericalShell, UniformBall

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
