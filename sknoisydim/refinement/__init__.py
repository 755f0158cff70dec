"""Refinement: an invertible map of the embedding that finishes the joint law after training.

Training leaves a gap in the joint law for eight and more components: structure finer than the
noise, which a classifier sees. An invertible map closes it and loses no information.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._options import resolve
from ._flow import FlowRefinement
from ._rotation import RotationGaussianization

__all__ = [
    "REFINEMENTS",
    "FlowRefinement",
    "RotationGaussianization",
    "resolve_refinement",
]

REFINEMENTS: Mapping[str, type] = {"flow": FlowRefinement, "rotation": RotationGaussianization}


def resolve_refinement(refine: Any) -> Any:
    """Return the component that a name, a class or an object stands for; None for None."""
    if refine is None:
        return None
    return resolve(refine, REFINEMENTS, "refine", method="build", also="None")
