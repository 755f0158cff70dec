"""scikit-learn's callbacks, which it has from 1.9 on: a fit and its epochs as tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from skorch.callbacks import Callback

from ._callbacks import StopTraining

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks

    WRAPPERS = 1
except ImportError:  # scikit-learn < 1.9 has no callbacks, and then there is no set_callbacks
    WRAPPERS = 0

    class CallbackSupportMixin:  # type: ignore[no-redef]  # the other branch
        """Stands for scikit-learn's mixin where there is none."""

    def with_callbacks(method: Any) -> Any:
        """Return the method as it is."""
        return method


__all__ = ["CALLBACK_STATE", "STACK_LEVEL", "CallbackSupportMixin", "Tasks", "with_callbacks"]

# `stacklevel` of a warning in a method under `with_callbacks` that points at the user's line.
STACK_LEVEL = 2 + WRAPPERS

# Attributes that scikit-learn sets on an estimator in a fit, and takes away after it.
CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


class Tasks(Callback):
    """Tell scikit-learn's callbacks of the fit of an estimator and of its epochs.

    Parameters
    ----------
    estimator : estimator
        Whose callbacks they are.
    X, y : ndarray, array-like
        What it is fitted to.
    so_far : callable
        (net, batches) -> the fitted attributes of the estimator, had training ended now.
    """

    def __init__(
        self, estimator: Any, X: Any, y: Any, so_far: Callable[[Any, Any], Mapping[str, Any]]
    ) -> None:
        self.estimator = estimator
        self.so_far = so_far
        self.data = {"X": X, "y": y}
        self.epoch: Any = None

    @classmethod
    def asked_for(cls, estimator: Any, *arguments: Any) -> list[Tasks]:
        """Return one in a list, or none if there is nobody to tell."""
        names = ("_skl_callbacks", "_parent_callback_ctx")
        asked = any(hasattr(estimator, name) for name in names)
        return [cls(estimator, *arguments)] if asked else []

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.fit = self.estimator._init_callback_context(max_subtasks=net.max_epochs)
        self.fit.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.epoch = self.fit.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if self._end_epoch(net, kwargs["dataset_train"]):
            raise StopTraining

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        if self.epoch is not None:  # another callback has ended training in it
            self._end_epoch(net, X)

    def _end_epoch(self, net: Any, batches: Any) -> bool:
        epoch, self.epoch = self.epoch, None
        return bool(
            epoch.call_on_fit_task_end(
                estimator=self.estimator,
                reconstruction_attributes=lambda: self.so_far(net, batches),
                **self.data,
            )
        )

    def end(self) -> None:
        """End the task of the fit, when the estimator is fitted, and release it."""
        self.fit.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes={}, **self.data
        )
        self.__dict__.clear()
