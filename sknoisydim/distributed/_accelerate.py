"""Training in several processes, each of which embeds a part of every batch.

Each draws for the whole batch, embeds its rows, which are gathered, and computes their rows of the
scores of all pairs. The objective is a sum over the processes: gradients by the embeddings are
added up where these are normalised, and those by the weights at the end.
"""

import copy
import datetime
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sknoisydim._context import extra, own_context
from sknoisydim._linear import Rows
from sknoisydim._modules import draw_seed
from sknoisydim._net._callbacks import Quiet, only_prints
from sknoisydim._net._checkpoint import differences
from sknoisydim._settings import resolve_callbacks
from sknoisydim._validation import check_real

from ._dask import check_estimator

# What is each process's own.
APART = {"callbacks", "device", "verbose"}
# These multiply by a mask, and those do more.
DROPOUTS = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)
OTHER_DROPOUTS = (functional.alpha_dropout, functional.feature_alpha_dropout)


@own_context()
def fit_data_parallel(
    estimator: BaseEstimator,
    X: object,
    y: object = None,
    *,
    accelerator: Any = None,
    timeout: float = 300.0,
    **fit_params: object,
) -> BaseEstimator | None:
    """Fit a transformer in several processes, which Accelerate or torchrun has started.

    Each embeds its part of every batch, and the fit is that of one process with the same
    `batch_size`, up to rounding. In a single process it is `estimator.fit`.

    Parameters
    ----------
    estimator : NoisyDIMTransformer
        What to fit, with the same parameters in every process.
    X : array-like of shape (n_samples, n_features)
        The whole table, the same in every process, such as a memory map of one file.
    y : array-like of shape (n_samples,), default=None
        As of `fit`.
    accelerator : accelerate.Accelerator, default=None
        Of this process. None makes one: on the GPUs where there are any, else on the CPU with gloo.
    timeout : float, default=300.0
        Seconds that a process waits for the others, without an accelerator of your own.
    **fit_params
        As of `fit`: `X_val`, `y_val`, `sample_weight`.

    Returns
    -------
    estimator : NoisyDIMTransformer or None
        The estimator, fitted, in the main process (rank 0), which alone prints; None in others,
        where `estimator` stays as it was. A callback of your own runs in every process.

    Raises
    ------
    ImportError
        If accelerate is not installed: `pip install "sknoisydim[accelerate]"`.
    TypeError, ValueError
        As of `fit`; if processes were given other tables or parameters, or with `checkpoint`.
    RuntimeError
        If another process has ended, or does not answer in time.
    """
    check_estimator(estimator)
    accelerator = _resolve(accelerator, timeout)
    rank, n_ranks = accelerator.process_index, accelerator.num_processes
    if n_ranks == 1:
        return estimator.fit(X, y, **fit_params)
    if estimator.checkpoint is not None:
        raise ValueError(f"checkpoint={estimator.checkpoint!r} is for one process: use None.")
    from accelerate.utils import broadcast_object_list

    worker, parameters = copy.copy(estimator), estimator.get_params(deep=False)
    with warnings.catch_warnings():
        if rank > 0:  # what the main process shows, or warns of, holds for all
            warnings.simplefilter("ignore")
        try:
            seed = estimator.random_state
            seed = seed if isinstance(seed, (int, np.integer)) else draw_seed(seed)
            # What the main process goes on from, others never got.
            last = estimator if estimator.warm_start and rank == 0 else None
            last, worker.random_state = broadcast_object_list([last, seed])
            if estimator.device == "auto":
                worker.device = str(accelerator.device)
            callbacks = resolve_callbacks(estimator.callbacks)
            if rank > 0:
                worker.verbose = 0
                callbacks = [item for item in callbacks if not only_prints(item)]
            worker.callbacks = [SharedRows(rank, n_ranks), *callbacks]
            worker.__dict__ = vars(last or worker) | worker.get_params(deep=False)
            worker.fit(X, y, **fit_params)
            accelerator.wait_for_everyone()
        except RuntimeError as error:
            error.add_note(f"Process {rank} of {n_ranks} waited for the others: one has ended.")
            raise
    if rank == 0:
        estimator.__dict__ = vars(worker) | parameters
    return estimator if rank == 0 else None


def _resolve(accelerator: Any, timeout: float) -> Any:
    """Return the accelerator of this process, which knows of the others."""
    check_real(timeout, "timeout", minimum=0, closed="neither")
    with extra("accelerate", "fit_data_parallel"):
        from accelerate import Accelerator, InitProcessGroupKwargs
    if accelerator is None:
        group = InitProcessGroupKwargs(timeout=datetime.timedelta(seconds=timeout))
        accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[group])
    elif not isinstance(accelerator, Accelerator):
        raise TypeError(f"accelerator must be an accelerate.Accelerator, got {accelerator!r}.")
    if (known := accelerator.num_processes) != (started := int(os.environ.get("WORLD_SIZE", "1"))):
        raise ValueError(
            f"a launcher has started {started} processes, and the accelerator knows of {known}: "
            "without GPUs make it Accelerator(cpu=True)."
        )
    # Of the launchers, Accelerate's for one CPU process alone leaves an address and no number.
    if "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        message = "`accelerate launch --cpu` starts one process; mpirun and torchrun start several."
        warnings.warn(message, stacklevel=4)  # the third is the decorator's
    for name, value in {"mixed_precision": "no", "gradient_accumulation_steps": 1}.items():
        if (given := getattr(accelerator, name)) != value:
            raise ValueError(f"the accelerator has {name}={given!r}, and needs {value!r}.")
    return accelerator


class SharedRows(Rows, Quiet):
    """The rows of one of several processes; as a callback, it lets a net train on them."""

    def __init__(self, rank: int, n_ranks: int) -> None:
        self.rank, self.n_ranks = rank, n_ranks

    def check(self, identity: Mapping[str, str]) -> None:
        """See that all processes do one fit, of one table."""
        from accelerate.utils import gather_object

        own = {name: said for name, said in identity.items() if name not in APART}
        for rank, other in enumerate(gather_object([own])):
            if told := differences(other, own):
                raise ValueError(f"process {rank} was given another fit than {self.rank}: {told}.")

    def on_train_begin(self, net: Any, **kwargs: object) -> None:
        net.module_.rows = self

    def on_train_end(self, net: Any, **kwargs: object) -> None:
        del net.module_.rows

    def on_grad_computed(self, net: Any, **kwargs: object) -> None:
        # Of the module: `named_parameters` is an iterator, which the next callback needs too.
        gradients = [p.grad for p in net.module_.parameters() if p.grad is not None]
        total = self.total(nn.utils.parameters_to_vector(gradients))
        nn.utils.vector_to_parameters(total, gradients)

    def total(self, value: torch.Tensor, how: str = "SUM") -> torch.Tensor:
        value = value.detach().clone()
        torch.distributed.all_reduce(value, getattr(torch.distributed.ReduceOp, how))
        return value

    def part(self, n: int) -> slice:
        rank, ranks = self.rank, self.n_ranks
        if n < ranks:
            raise ValueError(f"a batch of {n} samples is shared among {ranks} processes, too many.")
        return slice(rank * n // ranks, (rank + 1) * n // ranks)

    def encode(self, encoder: nn.Module, x: torch.Tensor) -> torch.Tensor:
        n, part = len(x), self.part(len(x))
        with WholeBatch(self, n):
            output = encoder(x[part])
        # The gradient of the whole is the same in every process: nothing is sent back.
        return self.sum(functional.pad(output, (0, 0, part.start, n - part.stop)))

    def share(self, z: torch.Tensor) -> torch.Tensor:
        z = z.view_as(z)
        if z.requires_grad:
            z.register_hook(self.total)
        return z

    def sum(self, own: torch.Tensor) -> torch.Tensor:
        # The same number in every process, with the gradient of its own part.
        return self.total(own) + (own - own.detach())

    def logsumexp(self, own: torch.Tensor) -> torch.Tensor:
        largest = self.total(own, "MAX")
        return largest + self.sum((own - largest).exp()).log()


class WholeBatch(TorchFunctionMode):
    """Batch normalisation and dropout of a whole batch, in layers that are given a part of it."""

    def __init__(self, rows: Rows, n: int) -> None:
        super().__init__()
        self.rows, self.n, self.part = rows, n, rows.part(n)

    def __torch_function__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("training"):
            if func is functional.batch_norm:
                return self._batch_norm(*args, **kwargs)
            if func in DROPOUTS:
                mask = func(args[0].new_ones(self.n, *args[0].shape[1:]), *args[1:], **kwargs)
                return args[0] * mask[self.part]
            if func in OTHER_DROPOUTS:
                raise TypeError(f"the encoder has {func.__name__}, which cannot be shared.")
        if func is torch.rand and args and isinstance(args[0], torch.Size):  # in our own dropout
            return func((self.n, *args[0][1:]), **kwargs)[self.part]
        return func(*args, **kwargs)

    def _batch_norm(self, x: Any, *running: Any, momentum: float, eps: float, **layer: Any) -> Any:
        rows, dtype, count = self.rows, x.dtype, self.n * x[0, 0].numel()
        # In bfloat16 it would be neither the layer's nor exact.
        x, axes = x.float(), [0, *range(2, x.ndim)]
        mean = rows.sum(rows.share(x.sum(axes, keepdim=True))) / count
        x = x - mean
        variance = rows.sum(rows.share(x.square().sum(axes, keepdim=True))) / count
        unbiased = variance * count / max(1, count - 1)
        for average, value in zip(running, (mean, unbiased), strict=True):
            if average is not None:
                average.lerp_(value.detach().flatten(), momentum)
        z = x * torch.rsqrt(variance + eps)
        if layer["weight"] is not None:
            z = z * layer["weight"].view_as(mean) + layer["bias"].view_as(mean)
        return z.to(dtype)
