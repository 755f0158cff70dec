"""Optimizers by name, and the schedule of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from sknoisydim._options import allowed, unknown_option

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}

# The fused step does the arithmetic of a whole group of parameters in one kernel, CPU too.
_FUSED = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)


def resolve_optimizer(optimizer: Any) -> Callable[..., torch.optim.Optimizer]:
    """Return the torch optimizer class that a name stands for, or the class itself.

    Raises
    ------
    ValueError
        If a name is unknown.
    TypeError
        If it is neither a name nor callable.
    """
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(unknown_option(optimizer, OPTIMIZERS, "optimizer"))
        return OPTIMIZERS[optimizer]
    if not callable(optimizer):
        raise TypeError(
            f"optimizer={optimizer!r} of type {type(optimizer).__name__} is not understood: it "
            f"takes {allowed(OPTIMIZERS)}, or a torch.optim class."
        )
    return optimizer


def optimizer_arguments(
    optimizer: Callable[..., torch.optim.Optimizer], weight_decay: float
) -> dict[str, Any]:
    """Return skorch's `optimizer__...` arguments."""
    arguments: dict[str, Any] = {"optimizer__weight_decay": weight_decay}
    if optimizer in _FUSED:
        arguments["optimizer__fused"] = True
    return arguments


def one_cycle(step: int, n_steps: int, peak: float, warm_up: float = 0.3) -> float:
    r"""Return the learning rate of a step: a cosine up to the peak, and a cosine down to zero.

    Source: L. N. Smith, N. Topin, "Super-Convergence", arXiv:1708.07120; start at peak / 25.
    """
    start, end = peak / 25, peak / 1e4
    position = (step + 1) / max(1, n_steps)
    if position < warm_up:
        return start + (peak - start) * (1 - math.cos(math.pi * position / warm_up)) / 2
    position = min(1.0, (position - warm_up) / (1 - warm_up))
    return end + (peak - end) * (1 + math.cos(math.pi * position)) / 2
