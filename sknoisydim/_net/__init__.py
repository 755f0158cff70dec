"""The skorch net: one step, one epoch, and the callbacks that come with it."""

from __future__ import annotations

from ._callbacks import HeldOut, reporters
from ._resume import training_state
from ._skorch import DIMNet

__all__ = ["DIMNet", "HeldOut", "reporters", "training_state"]
