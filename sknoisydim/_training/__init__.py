"""From validated rows to a trained encoder: builds the objective, runs the net, sets statistics."""

from __future__ import annotations

from ._fit import Start, Trained, fitted_so_far, train
from ._statistics import information_share
from ._stream import train_chunk

__all__ = ["Start", "Trained", "fitted_so_far", "information_share", "train", "train_chunk"]
