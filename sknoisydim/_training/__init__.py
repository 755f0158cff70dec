"""From validated rows to a trained encoder: builds the objective, runs the net, sets statistics."""

from __future__ import annotations

from ._fit import Start, train
from ._statistics import information_share

__all__ = ["Start", "information_share", "train"]
