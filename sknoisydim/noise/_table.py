"""The named kinds of noise, and the one way from a user's `noise` to one."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from sknoisydim._options import resolve

from ._base import check_scale
from ._gaussian import GaussianNoise
from ._uniform import UniformNoise

NOISES: Mapping[str, type] = {"gaussian": GaussianNoise, "uniform": UniformNoise}


def resolve_noise(noise: Any) -> Any:
    """Return the component that "auto", a number, a name, a class or an object stands for.

    Raises
    ------
    ValueError
        If a name is unknown, or a number is not > 0 or of no use as a noise.
    TypeError
        If it is none of these.
    """
    if isinstance(noise, numbers.Real):
        return GaussianNoise(check_scale(noise, "noise"))
    table = {"auto": GaussianNoise, **NOISES}
    return resolve(noise, table, "noise", method="build", also="a number > 0")
