"""Training in several processes, each with a part of every batch."""

from __future__ import annotations

import contextlib
import datetime
import numbers
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sknoisydim._context import own_context
from sknoisydim._isolation import draw_seed
from sknoisydim._net import MeanGradients, without_output
from sknoisydim._validation import check_real

from ._estimator import check_estimator
from ._shard import Shard, SharedEncoder, unshare, waiting

# Rows, evenly spaced, by which the processes see that they were given the same table.
COMPARED_ROWS = 16


@own_context()
def fit_data_parallel(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    accelerator: Any = None,
    timeout: float = 300.0,
    **fit_params: Any,
) -> Any:
    """Fit a transformer in several processes, which Accelerate or torchrun has started.

    Each process embeds its part of every batch. The parts are gathered, with their gradient, so
    normalisation, noise, critic and bound see the whole batch, as batch normalisation inside the
    encoder does: the fit is that of one process with the same `batch_size`, up to rounding. In a
    single process it is `estimator.fit`.

    Parameters
    ----------
    estimator : NoisyDIMTransformer
        What to fit, with the same parameters in every process.
    X : array-like of shape (n, p)
        The whole table, the same in every process: a memory map of one file, for instance.
    y : array-like of shape (n,), default=None
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
        The estimator, fitted, in the main process (rank 0). None in every other one, where
        `estimator` stays as it was: what follows is for one process.

    Raises
    ------
    ImportError
        If accelerate is not installed.
    TypeError
        If `estimator` is no `NoisyDIMTransformer`, or its encoder has dropout that cannot be
        shared.
    ValueError
        If the processes were given different rows, labels or weights, a batch has not a row for
        each of them, the estimator has a `checkpoint`, or the accelerator asks for mixed precision
        (that is the estimator's `precision`) or for accumulated gradients, which this does not do.
        Also where a launcher started several processes and the accelerator knows of one.
    RuntimeError
        If another process has ended, or does not answer within the time-out.

    Warns
    -----
    UserWarning
        If ``accelerate launch --cpu`` was asked for several processes: it starts one.

    Notes
    -----
    Progress, and lines of skorch's PrintLog and ProgressBar, come from the main process alone; a
    callback of your own runs in every process. A random function inside a module of your own, other
    than dropout layers of torch, draws the same numbers in every process, each for its own rows.

    Work that is shared is that of the encoder. Views, noise, critic and scores are of the whole
    batch in every process: more processes pay while the encoder is the larger part.

    Examples
    --------
    In a script that ``torchrun --nproc-per-node 2 script.py`` starts; by itself it is one process:

    >>> import numpy as np
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.distributed import fit_data_parallel
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> embedder = NoisyDIMTransformer(2, max_epochs=2, batch_size=64, random_state=0)
    >>> fitted = fit_data_parallel(embedder, X)
    >>> if fitted is not None:  # the main process
    ...     fitted.transform(X).shape
    (200, 2)
    """
    check_estimator(estimator)
    accelerator = _resolve(accelerator, timeout)
    if accelerator.num_processes > 1 and getattr(estimator, "checkpoint", None) is not None:
        raise ValueError(
            f"checkpoint={estimator.checkpoint!r} is for a fit in one process, and this one is in "
            f"{accelerator.num_processes}: use checkpoint=None."
        )
    if accelerator.num_processes == 1:
        return estimator.fit(X, y, **fit_params)
    shard = Shard(accelerator.process_index, accelerator.num_processes)
    with waiting(shard):
        seed = _agree(shard, estimator.random_state, {"X": X, "y": y, **fit_params})
    worker = _worker(estimator, shard, accelerator, seed)
    with waiting(shard), _warning_once(accelerator.is_main_process):
        worker.fit(X, y, **fit_params)
    with waiting(shard):
        accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return None
    unshare(worker.net_.module_.encoder)
    worker.net_.callbacks_ = _without_ours(worker.net_.callbacks_)
    worker.net_.callbacks = _without_ours(worker.net_.callbacks)
    for name in _fitted(estimator):
        delattr(estimator, name)
    estimator.__dict__ |= _fitted(worker)
    return estimator


def _resolve(accelerator: Any, timeout: float) -> Any:
    """Return the accelerator of this process, which knows of the others."""
    check_real(timeout, "timeout", minimum=0, closed="neither")
    try:
        from accelerate import Accelerator, InitProcessGroupKwargs
    except ImportError as error:
        raise ImportError(
            "fit_data_parallel needs accelerate, an optional dependency: "
            'pip install "sknoisydim[accelerate]"'
        ) from error
    if accelerator is None:
        import torch

        group = InitProcessGroupKwargs(timeout=datetime.timedelta(seconds=timeout))
        accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[group])
    elif not isinstance(accelerator, Accelerator):
        raise TypeError(
            f"accelerator must be None or accelerate.Accelerator(), got {accelerator!r}."
        )
    n_started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != n_started:
        raise ValueError(
            f"a launcher has started {n_started} processes, and the accelerator knows of "
            f"{accelerator.num_processes}: without GPUs make it Accelerator(cpu=True)."
        )
    # Of the launchers, Accelerate's for one CPU process alone leaves an address and no number.
    if "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ:
        warnings.warn(
            "`accelerate launch --cpu` was asked for several processes, and starts one. Start them "
            "with `torchrun --nproc-per-node N`, with mpirun, or in the script with "
            "`accelerate.debug_launcher(function, num_processes=N)`.",
            UserWarning,
            stacklevel=4,  # the third is the decorator's
        )
    if accelerator.mixed_precision != "no" or accelerator.gradient_accumulation_steps != 1:
        raise ValueError(
            f"the accelerator has mixed_precision={accelerator.mixed_precision!r} and "
            f"gradient_accumulation_steps={accelerator.gradient_accumulation_steps}; it takes "
            "'no' (the estimator has precision='bf16') and 1, a step for each batch."
        )
    return accelerator


def _agree(shard: Shard, random_state: Any, tables: Mapping[str, Any]) -> int:
    """Return the seed of the main process, if all were given the same tables, by name.

    Raises
    ------
    ValueError
        If not.
    """
    from accelerate.utils import gather_object

    own = isinstance(random_state, (int, np.integer))
    seed = int(random_state) if own else draw_seed(random_state)
    given = {name: _fingerprint(table) for name, table in tables.items()}
    told = gather_object([(seed, own, given)])
    first, _, wanted = told[0]
    for rank, (other, _, found) in enumerate(told):
        if found != wanted or (own and other != first):
            raise ValueError(
                f"process {rank} was given random_state {other} and {found}, process 0 {first} and "
                f"{wanted}: all need the same. A table is told by its shape and a checksum of "
                f"{COMPARED_ROWS} rows."
            )
    return int(first)


def _fingerprint(table: Any) -> tuple[tuple[int, ...], int] | None:
    """Return the shape of a table and a checksum of some of its rows."""
    if table is None:
        return None
    if sparse.issparse(table):
        matrix: Any = table
        table = matrix.tocsr()  # not all formats are read by rows
    elif isinstance(table, numbers.Real):  # the weight of all rows
        table = [table]
    n_rows = _num_samples(table)
    positions = np.linspace(0, n_rows - 1, COMPARED_ROWS if n_rows else 0).astype(int)
    rows = _safe_indexing(table, positions)
    values = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows)
    content = repr(values.tolist()) if values.dtype.hasobject else values.tobytes()
    content = content.encode() if isinstance(content, str) else content
    return (n_rows, *values.shape[1:]), zlib.crc32(content)


def _worker(estimator: Any, shard: Shard, accelerator: Any, seed: int) -> Any:
    """Return the transformer that this process fits."""
    worker = clone(estimator)
    if estimator.warm_start:
        from accelerate.utils import broadcast_object_list

        # Others never got what the main process goes on from.
        (last,) = broadcast_object_list([estimator if accelerator.is_main_process else None])
        worker.__dict__ |= _fitted(last)
    worker.random_state = seed
    worker.encoder = SharedEncoder(estimator.encoder, shard)
    if estimator.device == "auto":
        worker.device = str(accelerator.device)
    callbacks = worker.callbacks or []
    if not accelerator.is_main_process:
        worker.verbose = 0
        callbacks = without_output(callbacks)
    worker.callbacks = [MeanGradients(), *callbacks]
    return worker


def _fitted(estimator: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(estimator).items() if name.endswith("_")}


def _without_ours(callbacks: list[Any]) -> list[Any]:
    return [
        item
        for item in callbacks
        if not isinstance(item[-1] if isinstance(item, tuple) else item, MeanGradients)
    ]


@contextlib.contextmanager
def _warning_once(main: bool) -> Iterator[None]:
    """Leave it to the main process to warn: what it says holds for all."""
    with warnings.catch_warnings():
        if not main:
            warnings.simplefilter("ignore")
        yield
