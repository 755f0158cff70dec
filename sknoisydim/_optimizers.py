"""Optimizers by name, and the schedule of the learning rate."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from sknoisydim._validation import allowed, check_name

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}

ALSO = ["a torch.optim class", "a function (parameters, lr) that returns an optimizer"]
TAKES = f"it takes {allowed(OPTIMIZERS, ALSO)}."


def resolve_optimizer(optimizer: object) -> Callable[..., torch.optim.Optimizer]:
    """Return the torch optimizer class that a name stands for, or the class itself."""
    if isinstance(optimizer, str):
        return OPTIMIZERS[check_name(optimizer, OPTIMIZERS, "optimizer", ALSO)]
    if not callable(optimizer):
        kind = type(optimizer).__name__
        raise TypeError(f"optimizer={optimizer!r} of type {kind} is not understood: {TAKES}")
    made = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    if inspect.isclass(made):
        check_optimizer(made)
    return optimizer


def check_optimizer(optimizer: object) -> None:
    """See that an optimizer, or a class of these, can be used in a fit."""
    kind = optimizer if inspect.isclass(optimizer) else type(optimizer)
    if not issubclass(kind, torch.optim.Optimizer):
        raise TypeError(f"optimizer made a {kind.__name__}: {TAKES}")
    closure = inspect.signature(kind.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise ValueError(
            f"optimizer {kind.__name__} evaluates the loss several times in a step, by a closure, "
            f"and a step here sees one batch once. Use {allowed(OPTIMIZERS)}, or another class of "
            "torch.optim."
        )
    if issubclass(kind, torch.optim.SparseAdam):
        raise ValueError(
            f"optimizer {kind.__name__} needs sparse gradients, and these are dense. Use 'adam'."
        )


def optimizer_arguments(optimizer: Callable[..., torch.optim.Optimizer]) -> dict[str, Any]:
    """Return skorch's `optimizer__...` arguments."""
    given: Mapping[str, Any] = {}
    if isinstance(optimizer, functools.partial):
        given, optimizer = optimizer.keywords, optimizer.func
    chosen = given.keys() & {"fused", "foreach", "differentiable"}
    # A fused step does the arithmetic of a whole group of parameters in one kernel, CPU too.
    return {"optimizer__fused": True} if optimizer in OPTIMIZERS.values() and not chosen else {}


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
