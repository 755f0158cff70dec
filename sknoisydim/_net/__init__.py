"""The skorch net: one step, one epoch, and the callbacks that come with it."""

from __future__ import annotations

from ._callbacks import HeldOut, reporters
from ._checkpoint import FitCheckpoint
from ._parallel import SumGradients, without_output
from ._resume import training_state
from ._skorch import DIMNet
from ._tasks import CALLBACK_STATE, STACK_LEVEL, CallbackSupportMixin, Tasks, with_callbacks

__all__ = [
    "CALLBACK_STATE",
    "STACK_LEVEL",
    "CallbackSupportMixin",
    "DIMNet",
    "FitCheckpoint",
    "HeldOut",
    "SumGradients",
    "Tasks",
    "reporters",
    "training_state",
    "with_callbacks",
    "without_output",
]
