"""Training in several processes, each of which embeds a part of every batch.

What is drawn is of the whole batch in every process, so a fit is that of one process up to
rounding. Each embeds its rows, and computes their rows of the scores of all pairs; embeddings, and
what of the scores is about several rows, are gathered. The objective is a sum over the processes,
and each has the gradient of its part: that by the embeddings is added up where they are normalised,
and that by the weights at the end.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples
from torch import nn

from sknoisydim._context import own_context
from sknoisydim._linear import Rows
from sknoisydim._modules import Dropout, RandomState, draw_seed
from sknoisydim._net._callbacks import SumGradients, without_output
from sknoisydim._validation import check_real
from sknoisydim.encoders import resolve_encoder

from ._dask import check_estimator

if TYPE_CHECKING:
    from accelerate import Accelerator

Forward = Callable[..., torch.Tensor]
# Samples, evenly spaced, by which the processes see that they were given the same table.
COMPARED_SAMPLES = 16
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# These multiply by a mask; AlphaDropout and its kin do more.
DROPOUTS = (Dropout, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@own_context()
def fit_data_parallel(
    estimator: BaseEstimator,
    X: object,
    y: ArrayLike | None = None,
    *,
    accelerator: Any = None,
    timeout: float = 300.0,
    **fit_params: object,
) -> BaseEstimator | None:
    """Fit a transformer in several processes, which Accelerate or torchrun has started.

    Each process embeds its part of every batch, with batch normalisation and dropout of the whole
    batch, and scores its noisy rows against all views: the fit is that of one process with the same
    `batch_size`, up to rounding. A bound or a critic of your own is computed in full in every
    process. In a single process it is `estimator.fit`.

    Parameters
    ----------
    estimator : NoisyDIMTransformer
        What to fit, with the same parameters in every process.
    X : array-like of shape (n_samples, n_features)
        The whole table, the same in every process: a memory map of one file, for instance.
    y : array-like of shape (n_samples,), default=None
        As of `fit`.
    accelerator : accelerate.Accelerator, default=None
        Of this process. None makes one: on the GPUs where there are any, else on the CPU with gloo.
    timeout : float, default=300.0
        Seconds that a process waits for the others before it gives up. For an accelerator of your
        own, pass it one in `accelerate.InitProcessGroupKwargs`.
    **fit_params
        As of `fit`: `X_val`, `y_val`, `sample_weight`.

    Returns
    -------
    estimator : NoisyDIMTransformer or None
        The estimator, fitted, in the main process (rank 0), which alone prints. None in every other
        one, where `estimator` stays as it was. A callback of your own runs in every process.

    Raises
    ------
    ImportError
        If accelerate is not installed: `pip install "sknoisydim[accelerate]"`.
    TypeError, ValueError
        As of `fit`; if processes were given other tables or seeds, or with `checkpoint`.
    RuntimeError
        If another process has ended, or does not answer in time.

    Examples
    --------
    In a script that ``torchrun --nproc-per-node 2 script.py`` starts; by itself it is one process:

    >>> import numpy as np
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.distributed import fit_data_parallel
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> fitted = fit_data_parallel(NoisyDIMTransformer(2, max_epochs=2, random_state=0), X)
    """
    check_estimator(estimator)
    accelerator = _resolve(accelerator, timeout)
    rank, n_ranks = accelerator.process_index, accelerator.num_processes
    main = accelerator.is_main_process
    if n_ranks == 1:
        return estimator.fit(X, y, **fit_params)
    if estimator.checkpoint is not None:
        raise ValueError(
            f"checkpoint={estimator.checkpoint!r} is for a fit in one process, and this one is in "
            f"{n_ranks}: use checkpoint=None."
        )
    with warnings.catch_warnings():
        if not main:  # what the main process warns of holds for all
            warnings.simplefilter("ignore")
        worker = clone(estimator)
        try:
            worker.random_state = _agree(estimator.random_state, {"X": X, "y": y, **fit_params})
            if estimator.warm_start:
                from accelerate.utils import broadcast_object_list

                # Others never got what the main process goes on from.
                (last,) = broadcast_object_list([estimator if main else None])
                worker.__dict__ |= _fitted(last)
            worker.encoder = SharedEncoder(estimator.encoder, rank, n_ranks)
            if estimator.device == "auto":
                worker.device = str(accelerator.device)
            callbacks = worker.callbacks or []
            if not main:
                worker.verbose, callbacks = 0, without_output(callbacks)
            sharing = SumGradients(SharedRows(rank, n_ranks))
            worker.callbacks = [sharing, *callbacks]
            worker.fit(X, y, **fit_params)
            accelerator.wait_for_everyone()
        except RuntimeError as error:
            error.add_note(
                f"Process {rank} of {n_ranks} waited for the others: one of them has ended, or did "
                "not answer within the time-out of the process group."
            )
            raise
    if not main:
        return None
    unshare(worker.net_.module_.encoder)
    net = worker.net_
    net.callbacks = [item for item in net.callbacks if not isinstance(item, SumGradients)]
    net.callbacks_ = [pair for pair in net.callbacks_ if not isinstance(pair[1], SumGradients)]
    for name in _fitted(estimator):
        delattr(estimator, name)
    estimator.__dict__ |= _fitted(worker)
    return estimator


def _fitted(estimator: BaseEstimator) -> dict[str, object]:
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def _resolve(accelerator: Any, timeout: float) -> Accelerator:
    """Return the accelerator of this process, which knows of the others."""
    check_real(timeout, "timeout", minimum=0, closed="neither")
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError as error:
        raise ImportError(
            'fit_data_parallel needs accelerate: pip install "sknoisydim[accelerate]"'
        ) from error
    if accelerator is None:
        group = InitProcessGroupKwargs(timeout=datetime.timedelta(seconds=timeout))
        accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[group])
    elif not isinstance(accelerator, Accelerator):
        raise TypeError(f"accelerator must be an accelerate.Accelerator, got {accelerator!r}.")
    n_started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != n_started:
        raise ValueError(
            f"a launcher has started {n_started} processes, and the accelerator knows of "
            f"{accelerator.num_processes}: without GPUs make it Accelerator(cpu=True)."
        )
    # Of the launchers, Accelerate's for one CPU process alone leaves an address and no number.
    if "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        warnings.warn(
            "`accelerate launch --cpu` starts one process: start several with mpirun, `torchrun "
            "--nproc-per-node N` or `accelerate.debug_launcher(function, num_processes=N)`.",
            stacklevel=4,  # the third is the decorator's
        )
    if accelerator.mixed_precision != "no" or accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"the accelerator has mixed_precision={accelerator.mixed_precision!r} and "
            f"gradient_accumulation_steps={accelerator.gradient_accumulation_steps}; it takes "
            "'no' (there is MLPEncoder(precision='bf16')) and 1, a step for each batch."
        )
    return accelerator


def _agree(random_state: RandomState, tables: Mapping[str, object]) -> int:
    """Return the seed of the main process, if all were given the same tables and seed."""
    from accelerate.utils import gather_object

    own = isinstance(random_state, (int, np.integer))
    seed: Any = random_state if own else draw_seed(random_state)
    told = gather_object(
        [(int(seed), {name: _fingerprint(table) for name, table in tables.items()})]
    )
    for rank, (other, found) in enumerate(told):
        if found != told[0][1] or (own and other != told[0][0]):
            raise ValueError(
                f"process {rank} was given random_state {other} and {found}, process 0 {told[0]}: "
                f"all need the same. A table is told by its length and {COMPARED_SAMPLES} samples."
            )
    return int(told[0][0])


def _fingerprint(table: Any) -> tuple[int, str]:
    """Return the number of samples of a table, and a hash of some of them."""
    if table is None or np.isscalar(table):  # no table, or the weight of all samples
        return 0, joblib.hash(table)
    is_sparse = sparse.issparse(table)
    rows: Any = sparse.csr_array(table) if is_sparse else table  # not all formats have rows
    n = _num_samples(rows)
    rows = _safe_indexing(rows, np.linspace(0, n - 1, COMPARED_SAMPLES if n else 0).astype(int))
    return n, joblib.hash(np.ascontiguousarray(rows.toarray() if is_sparse else rows))


class SharedRows(Rows):
    """The rows of one of several processes."""

    def __init__(self, rank: int, n_ranks: int) -> None:
        self.rank, self.n_ranks = rank, n_ranks

    def counts(self, n: int) -> list[int]:
        """Return how many of n rows each process has."""
        if n < self.n_ranks:
            raise ValueError(
                f"a batch of {n} samples is shared among {self.n_ranks} processes, and each needs "
                "one at least: use more samples, a larger batch_size, or fewer processes."
            )
        return [len(part) for part in np.array_split(range(n), self.n_ranks)]

    def part(self, n: int) -> slice:
        before = sum(self.counts(n)[: self.rank])
        return slice(before, before + self.counts(n)[self.rank])

    def share(self, z: torch.Tensor) -> torch.Tensor:
        z = z.view_as(z)
        if z.requires_grad:
            z.register_hook(_total)
        return z

    def sum(self, own: torch.Tensor) -> torch.Tensor:
        # The same number in every process, with the gradient of its own part.
        return _total(own) + (own - own.detach())

    def logsumexp(self, own: torch.Tensor) -> torch.Tensor:
        largest = own.detach().clone()
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
        return largest + self.sum((own - largest).exp()).log()


def _total(value: torch.Tensor) -> torch.Tensor:
    from accelerate.utils import reduce

    return reduce(value.detach().clone(), "sum")


class SharedEncoder:
    """Builds what `encoder` stands for, and shares its batches among the processes.

    The layers get another `forward` each. Names of parameters and types of layers stay, so that all
    that reads them (recalibration, a warm start) finds what it knows.
    """

    def __init__(self, encoder: object, rank: int, n_ranks: int) -> None:
        self.encoder = encoder
        self.rows = SharedRows(rank, n_ranks)
        self.component = resolve_encoder(encoder)
        self.own_generator = getattr(self.component, "own_generator", False)
        self.any_shape = getattr(self.component, "any_shape", False)
        self.precision = getattr(self.component, "precision", "32")
        # Samples of each process, while a batch is on its way through the encoder.
        self.counts: list[int] = []

    def __sklearn_clone__(self) -> SharedEncoder:
        return self  # it knows its process, and a copy would know another

    def build(self, n_features: Any, n_components: int, generator: torch.Generator) -> nn.Module:
        """Return the module that shares."""
        module: nn.Module = self.component.build(n_features, n_components, generator)
        for layer in list(module.modules()):
            if isinstance(layer, BATCH_NORMS):
                vars(layer)["forward"] = _Patch(self._batch_norm, layer.forward, layer)
            elif isinstance(layer, DROPOUTS):
                vars(layer)["forward"] = _Patch(self._dropout, layer.forward, layer)
            elif isinstance(layer, nn.modules.dropout._DropoutNd):
                raise TypeError(
                    f"the encoder has a {type(layer).__name__}, which cannot be shared among "
                    f"processes; {', '.join(kind.__name__ for kind in DROPOUTS[1:])} can."
                )
        vars(module)["forward"] = _Patch(self._encode, module.forward)
        return module

    @contextlib.contextmanager
    def batch(self, n: int) -> Iterator[slice]:
        """Share a batch, and yield the part of this process."""
        self.counts, self.part = self.rows.counts(n), self.rows.part(n)
        try:
            yield self.part
        finally:
            self.counts = []

    def _encode(self, forward: Forward, x: torch.Tensor) -> torch.Tensor:
        # Only training takes gradients; what it does to clean samples is in evaluation mode.
        if not torch.is_grad_enabled():
            return forward(x)
        from accelerate.utils import gather

        with self.batch(len(x)) as part:
            output, most = forward(x[part]), max(self.counts)
            padding = output[:1].detach().expand(most - len(output), *output.shape[1:])
            parts = list(gather(torch.cat([output.detach(), padding])).split(most))
            # The gradient of the whole is the same in every process: nothing is sent back.
            parts[self.rows.rank] = output
            return torch.cat([part[:n] for part, n in zip(parts, self.counts, strict=True)])

    def _dropout(self, forward: Forward, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if not (layer.training and self.counts):
            return forward(x)
        # The mask of the whole batch: that of one process, and none that two processes share.
        return x * forward(x.new_ones(sum(self.counts), *x.shape[1:]))[self.part]

    def _batch_norm(self, forward: Forward, layer: Any, x: torch.Tensor) -> torch.Tensor:
        if not (layer.training and self.counts):
            return forward(x)
        total, dtype = sum(self.counts), x.dtype
        x = x.float()  # in bfloat16 it would be neither the layer's nor exact
        variance, mean = (
            value.double() for value in torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
        )
        # In float64 the squares may cancel, and two numbers a unit are all that is sent.
        moments = torch.stack([mean, variance + mean.square()]) * (len(x) / total)
        mean, square = self.rows.sum(self.rows.share(moments))
        variance = (square - mean.square()).clamp(min=0).to(x.dtype)
        mean = mean.to(x.dtype)
        layer.num_batches_tracked.add_(1)
        momentum = layer.momentum
        if momentum is None:
            momentum = 1 / float(layer.num_batches_tracked)
        count = total * x[0, 0].numel()
        layer.running_mean.lerp_(mean.detach(), momentum)
        layer.running_var.lerp_(variance.detach() * (count / max(1, count - 1)), momentum)
        shape = (1, -1, *[1] * (x.ndim - 2))
        z = (x - mean.view(shape)) * torch.rsqrt(variance + layer.eps).view(shape)
        z = z * layer.weight.view(shape) + layer.bias.view(shape) if layer.affine else z
        return z.to(dtype)


class _Patch(partial):  # type: ignore[type-arg]  # of any forward
    """The `forward` of a layer that stands for the one before, its first argument."""


def unshare(module: nn.Module) -> None:
    """Give the layers of a module that `SharedEncoder` has built their own `forward` again."""
    for layer in module.modules():
        while isinstance(patch := vars(layer).get("forward"), _Patch):
            del vars(layer)["forward"]
            if layer.forward != patch.args[0]:  # one of the instance, not the method of its class
                vars(layer)["forward"] = patch.args[0]
