"""Callbacks of a fit: ours, those of scikit-learn, and checks of a user's own."""

import contextlib
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from sklearn.base import BaseEstimator
from skorch import NeuralNet
from skorch import callbacks as ready
from skorch.utils import noop
from tqdm.auto import tqdm

# Seconds of training that a line announces, and the batches that are timed.
LONG, TIMED = 30.0, 4


class StopTraining(Exception):
    """Raised where a callback ends training early."""


class Quiet(ready.Callback):
    """One of ours, which reads no record of a batch, so that none is made for it."""


class HeldOut(ready.EarlyStopping, Quiet):
    """Stop when the objective of held-out rows stops improving, and take the best weights."""

    def __init__(self, patience: int) -> None:
        absolute = {"threshold": 1e-3, "threshold_mode": "abs"}
        super().__init__(patience=patience, load_best=True, sink=noop, **absolute)

    def on_train_end(self, net: NeuralNet, **kwargs: object) -> None:
        super().on_train_end(net, **kwargs)
        self.best_model_weights_ = None


class Progress(Quiet):
    """One progress bar over all epochs, with what is learned in nats."""

    def on_train_begin(self, net: NeuralNet, **kwargs: object) -> None:
        # A program without a console, such as a service, has nowhere to show a bar.
        mute = sys.stderr is None or sys.stderr.closed
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch", desc="NoisyDIM", disable=mute)

    def on_train_end(self, net: NeuralNet, **kwargs: object) -> None:
        self.bar_.total = len(net.history)
        # A callback that stops training does so before this one has seen the epoch.
        self.on_epoch_end(net)
        self.bar_.refresh()

    def close(self) -> None:
        """Leave the bar as it stands, also where training ends in an error."""
        if "bar_" in self.__dict__:
            self.__dict__.pop("bar_").close()

    def on_epoch_end(self, net: NeuralNet, **kwargs: object) -> None:
        # The mutual information starts near its limit, and says nothing of what is learned.
        row, branch = net.history[-1], "clean" if net.module_.clean_weight > 0 else "view"
        text = f"linear information {row['train_linear_information']:.2f} nats"
        if not row["train_linear_information"]:
            limit = min(net.module_.channel.capacity, math.log(net.batch_size))
            text = f"{branch} {row[f'train_{branch}_information']:.2f} of {limit:.2f} nats"
        self.bar_.set_postfix_str(text, refresh=False)
        self.bar_.update(len(net.history) - self.bar_.n)  # a fit that goes on has run some before


class Forecast(Quiet):
    """Tell the logger "sknoisydim" of a training that takes long."""

    def on_train_begin(self, net: NeuralNet, *, X: Any, **kwargs: object) -> None:
        self.n_batches_ = len(X)
        self.ends_: list[float] = []

    def on_batch_end(self, net: NeuralNet, *, training: bool, **kwargs: object) -> None:
        if not training or len(self.ends_) > TIMED:
            return
        self.ends_.append(time.perf_counter())
        # The first batch sets up kernels and memory. This epoch is in the history, and so are those
        # before a checkpoint.
        n_steps = (net.max_epochs - len(net.history) + 1) * self.n_batches_
        seconds = (self.ends_[-1] - self.ends_[0]) / TIMED * n_steps
        if len(self.ends_) > TIMED and seconds > LONG:
            text = "training takes about %.0f s (%d steps); verbose=1 shows its progress"
            logging.getLogger("sknoisydim").warning(text, seconds, n_steps)


# Of skorch's sinks `print` itself is silent at verbose=0.
show = partial(print)


class EpochLines(ready.PrintLog, Quiet):
    """skorch's table of epochs: information, what of it is linear, mismatch, held-out rows."""

    def __init__(self) -> None:
        parts = ("loss", "view_information", "clean_information", "mismatch", "seconds")
        ignored = {f"{of}_{part}" for of in ("train", "valid") for part in parts}
        super().__init__(sorted(ignored - {"train_mismatch"}), sink=show)


def only_prints(callback: object) -> bool:
    """Whether a callback, or a pair of its name and it, does nothing but print."""
    return isinstance(callback[-1] if isinstance(callback, tuple) else callback, ready.PrintLog)


def check_callbacks(callbacks: Sequence[Any], held_out: bool) -> None:
    """See that initialised callbacks ask for what there is."""
    scores = {getattr(item, "name_", getattr(item, "name", None)) for item in callbacks}
    for item in callbacks:
        name = f"callbacks: {type(item).__name__}"
        asked, instead, monitor = "", "", getattr(item, "monitor", None)
        if isinstance(item, ready.InputShapeSetter):
            raise ValueError(f"{name} is not needed: write encoder(n_features, n_components).")
        scores_it = isinstance(item, (ready.BatchScoring, ready.EpochScoring))
        passes = isinstance(item, ready.PassthroughScoring)
        known = getattr(item, "scoring_", None)
        if scores_it and (not callable(known) or type(known).__module__.startswith("sklearn.")):
            raise ValueError(
                f"{name} has scoring={item.scoring!r}; it takes a function (net, batches, y) "
                "-> float here, in which net.predict(batches) gives the embedding so far."
            )
        if (scores_it or passes) and not item.on_train:
            asked, instead = "held-out rows", "on_train=True"
            if passes and item.name.startswith("train_"):
                raise ValueError(f"{name} passes {item.name!r} through: it needs on_train=True.")
        if isinstance(monitor, str) and monitor.removesuffix("_best") not in scores:
            asked = repr(monitor) if monitor.startswith("valid_") else asked
            instead = f"monitor={monitor.replace('valid_', 'train_')!r}"
        if asked and not held_out:
            raise ValueError(
                f"{name} reads {asked}, and no held-out rows are evaluated: use early_stopping=True"
                f" (with rows enough to hold some out), X_val in fit, or {instead}."
            )


def reporters(verbose: int) -> list[ready.Callback]:
    """Return the callbacks that show progress."""
    return [(Forecast, Progress, EpochLines)[min(verbose, 2)]()]


try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback import with_callbacks as with_callbacks

    WRAPPERS = 1
except ImportError:  # scikit-learn < 1.9 has no callbacks, and then there is no set_callbacks
    WRAPPERS = 0

    class CallbackSupportMixin:  # type: ignore[no-redef]  # where scikit-learn has none (before 1.9)
        pass

    def with_callbacks(method: object) -> Any:
        return method


# `stacklevel` of a warning in a method under `with_callbacks` that points at the user's line.
STACK_LEVEL = 2 + WRAPPERS

# Attributes that scikit-learn sets on an estimator in a fit, and takes away after it.
CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


class Tasks(Quiet):
    """Tell scikit-learn's callbacks of the fit of an estimator and of its epochs.

    `so_far` makes of (net, batches) the fitted attributes, had training ended now.
    """

    epoch: Any = None

    def __init__(self, so_far: Callable[[object, object], Mapping[str, object]], **data: Any):
        self.so_far, self.data = so_far, data

    @classmethod
    def asked_for(cls, estimator: BaseEstimator, **given: Any) -> list[Self]:
        """Return one in a list, or none if there is nobody to tell."""
        asked = {"_skl_callbacks", "_parent_callback_ctx"} & vars(estimator).keys()
        return [cls(estimator=estimator, **given)] if asked else []

    def on_train_begin(self, net: NeuralNet, **kwargs: object) -> None:
        self.fit = self.data["estimator"]._init_callback_context(max_subtasks=net.max_epochs)
        self.fit.call_on_fit_task_begin(**self.data)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: object) -> None:
        self.epoch = self.fit.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.data)

    def on_epoch_end(self, net: NeuralNet, *, dataset_train: Any, **kwargs: object) -> None:
        epoch, self.epoch = self.epoch, None
        so_far = partial(self.so_far, net, dataset_train)
        if epoch.call_on_fit_task_end(reconstruction_attributes=so_far, **self.data):
            raise StopTraining

    def on_train_end(self, net: NeuralNet, *, X: Any, **kwargs: object) -> None:
        if self.epoch is not None:  # another callback has ended training in it
            with contextlib.suppress(StopTraining):
                self.on_epoch_end(net, dataset_train=X)

    def end(self) -> None:
        """End the task of the fit, when the estimator is fitted, and release it."""
        self.fit.call_on_fit_task_end(reconstruction_attributes={}, **self.data)
        self.__dict__.clear()
