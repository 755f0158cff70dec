"""Trains on one chunk of a stream, and keeps what the next one goes on from."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from sknoisydim._data import Batches, Rows, Table
from sknoisydim._labels import UNLABELLED
from sknoisydim._modules import make_generator
from sknoisydim._net._warm_start import training_state
from sknoisydim._objective import Objective
from sknoisydim._references import References
from sknoisydim._settings import Settings
from sknoisydim._sources import RowSource, StackedRows
from sknoisydim.scaling import Moments, Standardize, column_moments, from_moments

from ._fit import (
    Trained,
    build,
    conclude,
    isolated_rng,
    missing_cells,
    scale,
    train_net,
)
from ._statistics import Prior

# Earlier rows that are kept, at most, to embed them with the weights of today: they give each entry
# of the covariance to 2 %. Fewer where rows are wide.
KEPT_ROWS = 2**11
KEPT_CELLS = 2**22
# As so many rows, for each component, the statistics of a fit count at most in the stream that goes
# on from it: enough for a covariance, and soon outweighed by rows that today's weights embed.
PRIOR_ROWS = 32
# Passes that the history of a stream reaches back.
HISTORY = 1000


@dataclass(eq=False)
class _Chunk(Batches):
    """One pass over new rows in full batches, the last one filled up with others."""

    n_new: int = 0  # rows, before the earlier ones

    def __len__(self) -> int:
        return -(-self.n_new // self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
        new = torch.randperm(self.n_new, generator=self.generator)
        old = torch.randperm(len(self.rows) - self.n_new, generator=self.generator) + self.n_new
        # Earlier rows; without enough of them, new rows of the first batches once more.
        order = torch.cat([new, old, new])[: len(self) * self.batch_size]
        for positions in order.split(self.batch_size):
            yield self.of(positions)


def train_chunk(
    table: Table,
    settings: Settings,
    seed: int,
    told: Sequence[object],
    start: Trained | None,
) -> Trained:
    """Go once over new rows, and finalize the statistics of all rows so far."""
    state = dict(start.state) if start else {}
    seed = state.setdefault("seed", seed)
    call = state["call"] = state.get("call", 0) + 1
    seeds = [int(s) for s in np.random.SeedSequence([seed, call]).generate_state(5)]
    with isolated_rng(settings, seeds[0]):
        n_new, device = len(table), settings.device
        scaling, moments = _scale(settings, table, start, seeds[1])
        kept = state.get("kept")
        n_kept = 0 if kept is None else len(kept)
        n_before = state.get("n_streamed", 0)
        both = Table(
            table.X if kept is None else StackedRows(table.X, kept),
            _and_unknown(table.targets, n_kept),
            # A row that is kept stands for those that are not.
            np.repeat([1.0, n_before / n_kept], [n_new, n_kept]) if n_before > n_kept else None,
            table.shape,
        )
        rows = Rows(both, scaling, device)
        batch_size = start.batch_size if start else min(settings.batch_size, len(rows))
        size = min(batch_size, len(rows))
        if start is None:
            channel = settings.noise.build(settings.n_components, batch_size)
            front = missing_cells(settings, table, scaling)
            objective = build(settings, rows, channel, make_generator(seeds[2]), front)
        else:
            objective = copy.deepcopy(start.net.module_)
            objective.precision = settings.precision
        prior = _prior(objective, start, n_before)
        objective = objective.to(device, torch.float32).train()
        known = References(settings, rows, both.targets is not None, seeds[1])
        objective.linear_weights, objective.linear_limits = known.weights, None
        objective.match_weight = settings.match_weight
        chunk = _Chunk(rows, size, make_generator(seeds[4]), known.of(rows), n_new=n_new)
        history = list(start.net.history)[-HISTORY + 1 :] if start else []
        net = train_net(
            objective,
            settings,
            chunk,
            [*settings.callbacks, *told],
            start,
            history=history,
            step=state.get("step", 0),
            generator=make_generator(seeds[3], device),
            n_steps=None,
            max_epochs=len(history) + 1,
        )
        state["optimizer"], state["step"] = training_state(net), net.step_
        state["moments"] = None if moments is None else tuple(moments)
        state["kept"] = _keep(kept, n_before, table.X, batch_size, seeds[1])
        state["n_streamed"] = n_before + n_new
        state["n_seen"] = state.get("n_seen", 0) + n_new
        trained = conclude(net, rows, settings, seeds[1], state, prior=prior)
        # A chunk of fewer rows leaves the size of batches as it is.
        return replace(trained, batch_size=batch_size)


def _scale(
    settings: Settings, table: Table, start: Trained | None, seed: int
) -> tuple[nn.Module, Moments | None]:
    """Return the scaling: that of the first call, or by the moments of all rows so far."""
    if start is None:
        return scale(settings, table, seed)
    scaling, moments = start.embedder.scaling, start.moments
    if moments is None or not isinstance(scaling, Standardize):
        return scaling, None
    moments = moments.merge(column_moments(table.X))
    return from_moments("standard" if scaling.bound is None else "squash", moments), moments


def _prior(objective: Objective, start: Trained | None, n_before: int) -> Prior | None:
    """Return what a fit knew of its rows, as long as few rows have come since."""
    if start is None:
        return None
    n_fitted = start.state.get("n_seen", 0) - n_before
    limit = PRIOR_ROWS * objective.normalizer.mean.numel() - n_before
    count = min(n_fitted, limit)
    return Prior.of(objective, count) if count > 0 else None


def _and_unknown(targets: np.ndarray | None, n_kept: int) -> np.ndarray | None:
    """Return the targets of new rows, and of the earlier ones, which are unknown."""
    if targets is None:
        return None
    unknown = UNLABELLED if targets.ndim == 1 else np.nan
    return np.concatenate([targets, np.full((n_kept, *targets.shape[1:]), unknown, targets.dtype)])


def _keep(
    kept: np.ndarray | None, n_before: int, new: RowSource, batch_size: int, seed: int
) -> np.ndarray:
    """Return a uniform sample of all rows of the stream (Vitter's algorithm R).

    Source: J. S. Vitter, "Random Sampling with a Reservoir", ACM Transactions on Mathematical
    Software 11 (1985).
    """
    capacity = max(min(KEPT_ROWS, KEPT_CELLS // new.shape[1]), batch_size)
    n_free = capacity if kept is None else max(0, capacity - len(kept))
    fill = new[:n_free]
    kept = fill.copy() if kept is None else np.concatenate([kept, fill])
    rng = np.random.default_rng(seed)
    n_rest = len(new) - len(fill)
    number = n_before + len(fill) + 1 + np.arange(n_rest)
    slots = (rng.random(n_rest) * number).astype(np.int64)
    taken = np.flatnonzero(slots < capacity)[::-1]
    # Of two rows for one place the later stays, and no other is read.
    places, last = np.unique(slots[taken], return_index=True)
    kept[places] = new[len(fill) + taken[last]]
    return kept
