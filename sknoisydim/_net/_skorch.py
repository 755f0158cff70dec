"""The skorch net: one step, one epoch, and what callbacks see of them."""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, LRScheduler, PrintLog, ProgressBar
from skorch.exceptions import SkorchException
from skorch.history import History
from torch import nn

from sknoisydim._data import Batches
from sknoisydim._modules import make_generator
from sknoisydim._objective import Nats
from sknoisydim._optimizers import check_optimizer, one_cycle

from ._callbacks import Quiet, StopTraining, check_callbacks, show

# Steps in which the rate of a stream rises: before, Adam's second moments, an average, say little.
STREAM_WARM_UP = 50


class DIMNet(NeuralNet):
    """A skorch net whose module returns nats, and whose loss is their negative.

    Training mode is set once an epoch, history is kept per epoch, and an interrupt is not
    swallowed. `generator` is that of noise and views, and `n_steps` is None for a stream.
    """

    _default_callbacks: ClassVar[list[Any]] = []

    def __init__(
        self,
        module: nn.Module,
        *,
        generator: torch.Generator,
        n_steps: int | None,
        held_out: Batches | None = None,
        **kwargs: object,
    ) -> None:
        # Nothing is cached for scoring: what a step returns is nats, no prediction.
        own = {"criterion": nn.Identity, "train_split": None, "verbose": 0, "use_caching": False}
        super().__init__(module, **kwargs | own)
        self.generator, self.n_steps, self.held_out = generator, n_steps, held_out
        self.step_ = 0

    @classmethod
    def at_rest(cls, module: nn.Module, history: Mapping[str, Any], **kwargs: Any) -> Self:
        """Return a net as it is after training, without an optimizer; `history` is by column."""
        net = cls(module, generator=make_generator(0), n_steps=None, max_epochs=1, **kwargs)
        rows = [dict(zip(history, row, strict=True)) for row in zip(*history.values(), strict=True)]
        net.history_ = History({**row, "batches": []} for row in rows)
        net.__dict__ |= {"module_": module, "callbacks_": [], "optimizer_": None}
        return net

    def __getstate__(self) -> dict[str, Any]:
        # skorch's way, for a GPU, parts the module from what else a pickle holds of it.
        return dict(vars(self)) if self.device == "cpu" else super().__getstate__()

    def __setstate__(self, state: dict[str, object]) -> None:
        if "__cuda_dependent_attributes__" in state:
            super().__setstate__(state)
        self.__dict__ |= state

    def get_iterator(self, dataset: Batches, training: bool = False) -> Batches:
        """Return the batches; who watches training draws nothing from its generator."""
        parts = (dataset.rows, dataset.batch_size, dataset.generator, dataset.references)
        return dataset if training else Batches(*parts, shuffle=False)

    def get_split_datasets(self, X: Batches, y: object = None, **fit_params: object) -> Any:
        """Return the batches to train on, and those held out."""
        return X, self.held_out

    def initialize_callbacks(self) -> Self:
        """Initialise the callbacks, and see that each finds here what it reads."""
        super().initialize_callbacks()
        check_callbacks([callback for _, callback in self.callbacks_], self.held_out is not None)
        for _, callback in self.callbacks_:
            if isinstance(callback, PrintLog) and callback.sink is print:
                callback.sink = show  # skorch's is silent at verbose=0, and so here always
            if isinstance(callback, ProgressBar):
                callback.batches_per_epoch = "count"  # it would take batches for rows
        return self

    def initialize_optimizer(self, *args: object, **kwargs: object) -> Self:
        """Make the optimizer."""
        try:
            super().initialize_optimizer(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError) as error:
            called = f"optimizer={self.optimizer!r}, called with the parameters and lr"
            raise ValueError(f"{called}: {error}") from error
        check_optimizer(self.optimizer_)
        for group in self.optimizer_.param_groups:
            group.setdefault("initial_lr", group["lr"])  # schedules that do not start at 0 read it
        return self

    def partial_fit(
        self, X: object, y: object = None, classes: object = None, **fit_params: object
    ) -> Self:
        """Train on X; an interrupt reaches the caller, which skorch takes for EarlyStopping's."""
        # A user's own schedule takes the place of ours, which would overwrite it in every step.
        self.scheduled_ = any(isinstance(item, LRScheduler) for _, item in self.callbacks_)
        # What callbacks of skorch read of batches is a copy to the CPU each: not without them.
        self.watched_ = not all(isinstance(item, Quiet) for _, item in self.callbacks_)
        self.warm_ = False
        self.notify("on_train_begin", X=X, y=y)
        with contextlib.suppress(StopTraining):
            # skorch's; it calls run_single_epoch below, and that train_step.
            self.fit_loop(X, y, epochs=self.max_epochs - len(self.history), **fit_params)
        self.notify("on_train_end", X=X, y=y)
        return self

    def notify(self, method_name: str, **cb_kwargs: object) -> None:
        """Call a method of every callback."""
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                if isinstance(callback, EarlyStopping):
                    raise StopTraining from None
                raise
            except (KeyError, SkorchException) as error:
                monitor = getattr(callback, "monitor", None)
                if not isinstance(monitor, str) or monitor in self.history[-1]:
                    raise
                recorded = sorted(set(self.history[-1]) - {"batches"})
                name = f"callbacks: {type(callback).__name__} monitors {monitor!r}"
                raise ValueError(f"{name}, which is not recorded; there are {recorded}.") from error

    def run_single_epoch(
        self, iterator: Batches | None, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run one epoch and record its means, `train_loss` among them."""
        if iterator is None:
            return
        self._set_training(training)
        sums: Any = 0.0
        started = time.perf_counter()
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            try:
                step = step_fn(batch, **fit_params)
            except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch has it, and does not declare it
                raise self._diverged("the covariance of a batch became singular") from error
            nats = torch.stack([value.detach() for value in step["y_pred"]])
            sums = nats + sums
            if self.watched_:
                self.history.record_batch(f"{prefix}_loss", step["loss"].item())
                self.history.record_batch(f"{prefix}_batch_size", len(batch[0]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        objective, *parts = (sums / len(iterator)).tolist()
        if not math.isfinite(objective):
            raise self._diverged(f"the objective became {objective}")
        loss = f"{prefix}_loss"
        self.history.record(loss, -objective)
        if self.watched_:
            before = [row[loss] for row in self.history[:-1] if loss in row]
            self.history.record(f"{loss}_best", -objective < min(before, default=math.inf))
        for name, value in zip(Nats._fields[1:], parts, strict=True):
            self.history.record(f"{prefix}_{name}", value)
        self.history.record(f"{prefix}_batch_count", len(iterator))
        self.history.record(f"{prefix}_seconds", time.perf_counter() - started)

    def _diverged(self, symptom: str) -> ValueError:
        return ValueError(
            f"training diverged: {symptom} in epoch {self.history[-1]['epoch']} "
            f"(lr={self.lr:.3g}). Use a smaller lr or a larger noise, and see that views, critic "
            "and encoder of your own return finite numbers."
        )

    def train_step(self, batch: Sequence[Any], **fit_params: object) -> dict[str, Any]:
        """Do one optimisation step."""
        if not self.scheduled_:
            for group in self.optimizer_.param_groups:
                group["lr"] = self._rate()
        self.optimizer_.zero_grad()
        nats = self.module_(*batch, self.generator)
        loss = -nats.objective
        if not loss.requires_grad:
            raise ValueError(
                "no gradient comes out of the objective: do the encoder, the critic or the bound "
                "detach what they return, or compute it with something else than torch?"
            )
        loss.backward()
        named = self.module_.named_parameters()
        self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        self.optimizer_.step()
        self.step_ += 1
        return {"loss": loss, "y_pred": nats}

    def _rate(self) -> float:
        """Return the learning rate of this step."""
        if self.n_steps is None:
            return float(self.lr * min(1.0, (self.step_ + 1) / STREAM_WARM_UP))
        # After a warm start the moments need no warm-up.
        return one_cycle(self.step_, self.n_steps, self.lr, 0.0 if self.warm_ else 0.3)

    def to_cpu_and_release_data(self) -> None:
        """Move to the CPU and release rows: a trained net may be used without a GPU or the data."""
        if hasattr(self.module_.augmentation, "release"):
            self.module_.augmentation.release()
        self.module_.cpu()
        self.device, self.held_out = "cpu", None
        self.generator = make_generator(self.generator.initial_seed())

    def validation_step(self, batch: Sequence[Any], **fit_params: object) -> dict[str, Any]:
        """Evaluate the objective on held-out rows."""
        # Held-out rows are normalised by their own statistics: exact ones come later.
        self.module_.normalizer.train()
        generator = make_generator(0, self.generator.device)
        with torch.no_grad():
            nats = self.module_(*batch, generator)
        return {"loss": -nats.objective, "y_pred": nats}

    def predict(self, X: object) -> np.ndarray:
        """Return embeddings (n, d) so far of rows in order, normalised by their own statistics."""
        if not isinstance(X, Batches):
            raise TypeError(
                f"net_.predict takes the batches that callbacks get, got {type(X).__name__}: use "
                "transform of the transformer."
            )
        module, training = self.module_, self.module_.training
        self._set_training(False)
        module.normalizer.train()
        with torch.no_grad():
            output = [module.encoder(x) for x in X.rows.in_order(X.batch_size)]
            z = module.normalizer(torch.cat(output))
        self._set_training(training)
        return z.cpu().numpy()
