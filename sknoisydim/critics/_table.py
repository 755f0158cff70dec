"""The named critics, and the one way from a user's `critic` to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sknoisydim._options import resolve

from ._concat import ConcatCritic
from ._gaussian import BilinearCritic, ExactCritic
from ._separable import SeparableCritic

CRITICS: Mapping[str, type] = {
    "separable": SeparableCritic,
    "bilinear": BilinearCritic,
    "concat": ConcatCritic,
    "exact": ExactCritic,
}


def resolve_critic(critic: Any) -> Any:
    """Return the component that a name, a class or an object stands for."""
    return resolve(critic, CRITICS, "critic", method="build")
