"""What views share."""

from __future__ import annotations

from collections.abc import Callable

import torch

View = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def bernoulli(x: torch.Tensor, rate: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32) < rate


def has_missing(x: torch.Tensor) -> bool:
    """Tell whether a cell is NaN, by a sum: scaling bounds cells, so it does not overflow."""
    return bool(x.sum().isnan())
