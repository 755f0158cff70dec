"""Refinement: an invertible map of the embedding that finishes the joint distribution.

Training leaves a gap in the joint distribution of eight and more components: structure finer than
the noise, which a classifier sees. An invertible map closes much of it and loses no information.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from sknoisydim._validation import check_call, resolve

from ._maps import InvertibleMap
from ._rotation import RotationGaussianization

__all__ = ["REFINEMENTS", "InvertibleMap", "RotationGaussianization", "resolve_refinement"]

REFINEMENTS: Mapping[str, type] = {"rotation": RotationGaussianization}


def resolve_refinement(refine: object) -> BaseEstimator | None:
    """Return the component that a value of `refine` stands for, and see that it can be built.

    Parameters
    ----------
    refine : str, class, object or None
        As of `NoisyDIMTransformer`.

    Returns
    -------
    component : object or None
        With ``build(z, seed, held_out)``; of an object a copy.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or a parameter of it is not as documented.
    """
    if refine is None:
        return None
    component: Any = resolve(refine, REFINEMENTS, "refine", also=["None"])
    check_call(component.build, f"refine={component!r}: its build", "z", "seed", "held_out")
    if type(component) in REFINEMENTS.values():
        # One row is too few to fit, and parameters are checked.
        component.build(np.zeros((1, 1)), 0)
    return component
