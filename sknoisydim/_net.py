"""The skorch net: one step, one epoch, and the callbacks that come with it."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.dataset import unpack_data
from torch import nn
from tqdm.auto import tqdm

from sknoisydim._data import Batches
from sknoisydim._isolation import make_generator
from sknoisydim._optimizers import one_cycle


class DIMNet(NeuralNet):
    """A skorch net whose module returns nats, and whose loss is their negative.

    Differs from skorch's net in the seams that cost time on tables (training mode is set once an
    epoch, history is kept per epoch) and in what an interrupt does (it is not swallowed).

    Parameters
    ----------
    module : nn.Module
        An `Objective`.
    generator : torch.Generator
        Of noise and views, on the device of the module.
    n_steps : int
        Optimisation steps of the whole schedule.
    held_out : Batches, optional
        Evaluated after every epoch.
    **kwargs
        skorch's.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        generator: torch.Generator,
        n_steps: int,
        held_out: Batches | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs = {"criterion": nn.Identity, "train_split": None, "verbose": 0} | kwargs
        super().__init__(module, **kwargs)
        self.generator = generator
        self.n_steps = n_steps
        self.held_out = held_out
        self.step_ = 0

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        return []

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return `dataset` itself, which is an iterable of batches already."""
        return dataset

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, Any]:
        """Return the batches to train on, and those held out."""
        return X, self.held_out

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> DIMNet:
        """Train on X; an interrupt stops training and reaches the caller.

        skorch swallows KeyboardInterrupt because its EarlyStopping raises one.
        """
        if not self.initialized_:
            self.initialize()
        fit_params.pop("_routing_method", None)
        # A user's own schedule takes the place of ours, which would overwrite it in every step.
        self.scheduled_ = any(isinstance(item, LRScheduler) for _, item in self.callbacks_)
        self.notify("on_train_begin", X=X, y=y)
        with contextlib.suppress(_StopTraining):
            self.fit_loop(X, y, **fit_params)
        self.notify("on_train_end", X=X, y=y)
        return self

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a method of every callback."""
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                if isinstance(callback, EarlyStopping):
                    raise _StopTraining from None
                raise

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run one epoch and record its means, `train_loss` among them."""
        if iterator is None:
            return
        started = time.perf_counter()
        self._set_training(training)
        sums: torch.Tensor | None = None
        count = 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            try:
                step = step_fn(batch, **fit_params)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # is there
                raise self._diverged("the covariance of a batch became singular") from error
            nats = torch.stack([value.detach() for value in step["y_pred"]])
            sums = nats if sums is None else sums + nats
            self.notify("on_batch_end", batch=batch, training=training, **step)
            count += 1
        if sums is None:
            return
        information, view, clean = (sums / count).tolist()
        if not math.isfinite(information):
            raise self._diverged(f"the information became {information} nats")
        self.history.record(f"{prefix}_loss", -information)
        self.history.record(f"{prefix}_information", information)
        self.history.record(f"{prefix}_view_information", view)
        self.history.record(f"{prefix}_clean_information", clean)
        self.history.record(f"{prefix}_batch_count", count)
        self.history.record(f"{prefix}_seconds", time.perf_counter() - started)

    def _diverged(self, symptom: str) -> ValueError:
        return ValueError(
            f"training diverged: {symptom} in epoch {self.history[-1]['epoch']} "
            f"(lr={self.lr:g}). Use a smaller lr or a larger noise, and see that views, critic and "
            "encoder of your own return finite numbers."
        )

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Do one optimisation step."""
        if not self.scheduled_:
            rate = one_cycle(self.step_, self.n_steps, self.lr)
            for group in self.optimizer_.param_groups:
                group["lr"] = rate
        self.optimizer_.zero_grad()
        x, partners = unpack_data(batch)
        nats = self.module_(x, partners, self.generator)
        loss = -nats.objective
        loss.backward()
        self.notify(
            "on_grad_computed",
            named_parameters=self.module_.named_parameters(),
            batch=batch,
            training=True,
        )
        self.optimizer_.step()
        self.step_ += 1
        return {"loss": loss, "y_pred": nats}

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Evaluate the objective on held-out rows."""
        # The law of the held-out rows is judged by their own statistics: exact ones come later.
        self.module_.normalizer.train()
        x, partners = unpack_data(batch)
        generator = make_generator(0, self.generator.device)
        with torch.no_grad():
            nats = self.module_(x, partners, generator)
        return {"loss": -nats.objective, "y_pred": nats}


class _StopTraining(Exception):
    """Raised where a callback ends training early."""


class HeldOut(Callback):
    """Stop when held-out information stops improving, and go back to the best weights.

    Parameters
    ----------
    patience : int
        Epochs without improvement.
    tol : float
        What counts as an improvement, in nats.
    """

    def __init__(self, patience: int, tol: float) -> None:
        self.patience = patience
        self.tol = tol

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.best_ = self.reference_ = -math.inf
        self.waited_ = 0
        self.weights_: dict[str, torch.Tensor] = {}

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        nats = net.history[-1]["valid_information"]
        if nats > self.best_:
            self.best_ = nats
            state = net.module_.state_dict()
            self.weights_ = {name: value.clone() for name, value in state.items()}
        if nats > self.reference_ + self.tol:
            self.reference_, self.waited_ = nats, 0
            return
        self.waited_ += 1
        if self.waited_ >= self.patience:
            raise _StopTraining

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        net.module_.load_state_dict(self.weights_)
        self.weights_ = {}


class Progress(Callback):
    """One progress bar over all epochs, with nats against capacity.

    Parameters
    ----------
    capacity : float
        Of the channel, in nats.
    """

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch", desc="NoisyDIM")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        nats = net.history[-1]["train_information"]
        self.bar_.set_postfix_str(f"{nats:.2f} of {self.capacity:.2f} nats", refresh=False)
        self.bar_.update()

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it stands, also where training ends in an error."""
        bar = self.__dict__.pop("bar_", None)
        if bar is not None:
            bar.close()


class EpochLines(Callback):
    """A line per epoch.

    Parameters
    ----------
    capacity : float
        Of the channel, in nats.
    """

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        parts = [f"epoch {row['epoch']:4d}/{net.max_epochs}"]
        parts += [
            f"{name} {row[key]:6.3f}"
            for name, key in [
                ("information", "train_information"),
                ("view", "train_view_information"),
                ("clean", "train_clean_information"),
                ("held-out", "valid_information"),
            ]
            if key in row
        ]
        print(
            ", ".join(parts), f"(capacity {self.capacity:.3f} nats), {row['train_seconds']:.2f} s"
        )


def reporters(verbose: int, capacity: float) -> list[Callback]:
    """Return the callbacks that show progress: a bar for 1, a line per epoch above."""
    if verbose == 1:
        return [Progress(capacity)]
    return [EpochLines(capacity)] if verbose > 1 else []
