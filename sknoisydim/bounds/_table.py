"""The named bounds, and the one way from a user's `bound` to one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from sknoisydim._options import allowed, unknown_option

from ._infonce import infonce
from ._jsd import jsd, smile
from ._variational import DonskerVaradhan, nwj

Bound = Callable[[torch.Tensor], torch.Tensor]

# A function, or a class: of a class, each fit makes an object of its own, which may keep a state.
BOUNDS: Mapping[str, Bound | type[nn.Module]] = {
    "infonce": infonce,
    "nwj": nwj,
    "dv": DonskerVaradhan,
    "smile": smile,
    "jsd": jsd,
}


def resolve_bound(bound: Any) -> Bound:
    """Return the function that a name, a class, an object or a function stands for.

    A class is called without arguments, and a module is copied: what a bound remembers of a fit
    stays with that fit.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a string nor callable.
    """
    if isinstance(bound, str):
        if bound not in BOUNDS:
            raise ValueError(unknown_option(bound, BOUNDS, "bound"))
        bound = BOUNDS[bound]
    if inspect.isclass(bound):
        bound = bound()
    if not callable(bound):
        raise TypeError(f"bound={bound!r} is neither {allowed(BOUNDS)} nor callable.")
    return copy.deepcopy(bound) if isinstance(bound, nn.Module) else bound
