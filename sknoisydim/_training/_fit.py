"""Trains on a table, or on a chunk of a stream, and returns what that leaves."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from sknoisydim._data import Batches, Rows, Table
from sknoisydim._labels import UNLABELLED
from sknoisydim._model import Embedder
from sknoisydim._modules import fork_global_rng, import_compiler, make_generator
from sknoisydim._net._callbacks import HeldOut, Progress, Quiet
from sknoisydim._net._checkpoint import FitCheckpoint, WarmStart, identity, training_state
from sknoisydim._net._skorch import DIMNet
from sknoisydim._objective import Objective, channel_nats
from sknoisydim._optimizers import optimizer_arguments
from sknoisydim._references import References
from sknoisydim._settings import Settings, auto_epochs
from sknoisydim._sources import RowSource, StackedRows, missing_columns
from sknoisydim.augmentations import prepare_view
from sknoisydim.encoders import IndicateMissing, check_output
from sknoisydim.refinement._rotation import MIN_HELD_OUT
from sknoisydim.scaling import (
    BY_MOMENTS,
    Moments,
    Standardize,
    column_moments,
    fit_scaling,
    from_moments,
)

from ._statistics import HELD_OUT_ROWS, Prior, check_collapse, finalize_statistics, refine, sample

# Rows that a view may look at before training.
VIEW_ROWS = 2**12
# Share of the rows that is held out of training, that of scikit-learn's networks.
HELD_OUT_SHARE = 0.1
# Earlier rows, and cells, that are kept at most: they give each entry of the covariance to 2 %.
KEPT_ROWS, KEPT_CELLS = 2**11, 2**22
# As so many rows, for each component, the statistics of a fit count at most in a stream.
PRIOR_ROWS = 32
# Passes that the history of a stream reaches back.
HISTORY = 1000
GOES_ON = "warm_start=True goes on from the last fit's weights, and they"


def _missing_cells(
    settings: Settings, table: Table, scaling: nn.Module, known: nn.Module | None
) -> IndicateMissing | None:
    """Return what shows the encoder the missing cells of a table, or of `known`, or None."""
    wanted = settings.takes_missing
    if known is not None and isinstance(known, IndicateMissing) != wanted:
        asked = f"missing={settings.missing!r} asks for. Use warm_start=False."
        raise ValueError(f"{GOES_ON} are of another network than {asked}")
    if isinstance(known, IndicateMissing):
        return copy.deepcopy(known).cpu()
    if not wanted:
        return None
    fill = torch.zeros(table.X.shape[1], dtype=torch.float32)
    # The zero of a `Standardize` is the mean, also when a stream moves it.
    if not isinstance(scaling, Standardize):
        mean = column_moments(table.X, table.weights).mean
        with torch.no_grad():
            fill = scaling(torch.from_numpy(mean)[None])[0].float()
    return IndicateMissing(nn.Identity(), torch.from_numpy(missing_columns(table.X)), fill)


def build(
    settings: Settings, table: Table, rows: Rows, batch_size: int, seed: int, start: Trained | None
) -> Objective:
    """Return the objective for these rows of a table, with weights of the last fit or new ones."""
    d, generator = settings.n_components, make_generator(seed)
    channel = settings.noise.build(d, batch_size)
    last = start.embedder.encoder if start else None
    front = _missing_cells(settings, table, rows.scaling, last)
    example = rows.take(torch.arange(min(2, len(rows)))).cpu()
    # Training is in float32, whatever torch's default dtype or that of a user's module is.
    example = example if front is None else front.widen(example)
    width = rows.shape or example[0].numel()
    encoder = settings.encoder.build(width, d, generator).float()
    check_output(encoder, example, d)
    if front is not None:
        front.encoder, encoder = encoder, front
    critic: nn.Module | None = None
    if settings.clean_weight < 1 or not getattr(channel, "exact", True):
        critic = settings.critic.build(d, channel, generator)
        if not isinstance(critic, nn.Module):
            built = type(critic).__name__
            raise TypeError(f"critic={settings.critic!r} built a {built}, not a torch module.")
    some = rows.take(torch.randperm(len(rows), generator=generator)[:VIEW_ROWS])
    view, normalizer = prepare_view(settings.augmentation, some), settings.normalization.build(d)
    weight = settings.clean_weight
    objective = Objective(encoder, normalizer, channel, critic, settings.bound, view, weight)
    objective.match_weight, objective.precision = settings.match_weight, settings.precision
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise ValueError(
            "there is nothing to train: no parameter of the encoder has requires_grad=True, and "
            f"with clean_weight={weight:g} and this critic there is no other. Unfreeze a layer of "
            "the encoder."
        )
    if start is not None:
        _load(objective, start.net.module_.state_dict())
    return objective.to(torch.float32)


def _load(objective: Objective, weights: Mapping[str, torch.Tensor]) -> None:
    """Give an objective the weights of the last fit, as far as both have them."""
    own = objective.state_dict()
    # What only helps in training starts afresh where there was none, and is dropped where there is
    # no use for it.
    for part in ("critic.", "bound.", "augmentation."):
        old, new = ({k: v for k, v in d.items() if k.startswith(part)} for d in (weights, own))
        if not old or not new:
            weights = {k: v for k, v in weights.items() if k not in old} | new
    try:
        objective.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{GOES_ON} do not fit the network that the parameters ask for, such as another "
            "n_components or encoder. Use warm_start=False."
        ) from error


@dataclass(frozen=True)
class Trained:
    """What training leaves behind, and may go on from: `state` holds plain numbers and arrays."""

    net: DIMNet
    embedder: Embedder
    batch_size: int
    state: dict[str, Any]
    information: float = math.nan
    refinement: nn.Module | None = None
    convergence_message: str | None = None


def split(table: Table, seed: int, most: int) -> tuple[Table, Table | None]:
    """Return the rows to train on, and at most so many held out, by their weights, None of few."""
    n_rows = len(table)
    n_held_out = min(most, round(HELD_OUT_SHARE * n_rows))
    if n_held_out < MIN_HELD_OUT or n_rows - n_held_out < MIN_HELD_OUT:
        return table, None
    order = np.random.default_rng(seed).permutation(n_rows)
    index = np.sort(order[:n_held_out])
    if table.weights is not None:
        shares = table.weights[index] / table.weights[index].sum()
        index = np.random.default_rng(seed).choice(index, len(index), p=shares)
    held_out = replace(table.take(index), weights=None)
    return table.take(np.sort(order[n_held_out:])), held_out


def scale(
    settings: Settings, table: Table, seed: int, start: Trained | None, moving: bool = False
) -> tuple[nn.Module, tuple[Any, ...] | None]:
    """Return the scaling, that of `start` or `moving` on from there, and its moments, or None."""
    if start is None:
        if isinstance(settings.scaling, str) and settings.scaling in BY_MOMENTS:
            found = column_moments(table.X, table.weights)
            return from_moments(settings.scaling, found), tuple(found)
        missing = settings.takes_missing
        return fit_scaling(settings.scaling, table.X, seed % 2**31, table.weights, missing), None
    scaling: Any = start.embedder.scaling
    moments = start.state.get("moments")
    if moving and moments is not None:
        found = Moments(*moments).merge(column_moments(table.X))
        name = "standard" if scaling.bound is None else "squash"
        return from_moments(name, found), tuple(found)
    return scaling, moments


def train_net(
    objective: Objective,
    settings: Settings,
    batches: Batches,
    callbacks: Sequence[object],
    start: Trained | None,
    seed: int,
    *,
    epochs: int | None = None,
    last: Sequence[object] = (),
    held_out: Batches | None = None,
) -> DIMNet:
    """Return a net that has trained for so many epochs, or one more behind those of `start`."""
    before = start if epochs is None else None
    history = list(before.net.history)[-HISTORY + 1 :] if before else []
    state = start and start.state.get("optimizer")
    warm = [WarmStart(state)] if state else []
    net = DIMNet(
        objective,
        generator=make_generator(seed, settings.device),
        n_steps=None if epochs is None else epochs * len(batches),
        held_out=held_out,
        batch_size=batches.batch_size,
        lr=settings.lr,
        max_epochs=epochs or len(history) + 1,
        optimizer=settings.optimizer,
        device=str(settings.device),
        callbacks=[*callbacks, *warm, *last],
        **optimizer_arguments(settings.optimizer),
    )
    net.initialize()
    net.history.extend(history)
    net.step_ = before.state.get("step", 0) if before else 0
    try:
        net.partial_fit(batches)
    finally:
        for item in callbacks:
            if isinstance(item, Progress):
                item.close()
    return net


def train(
    table: Table,
    settings: Settings,
    seed: int,
    told: Sequence[object],
    start: Trained | None = None,
    validation: Table | None = None,
) -> Trained:
    """Train an encoder on a table; `told` are callbacks behind those of the user.

    Without rows for `validation`, early stopping and a refinement hold some of the table out.
    """
    checkpoints = [] if settings.checkpoint is None else [FitCheckpoint(settings, seed)]
    for checkpoint in checkpoints:
        seed = checkpoint.seed
    seeds = np.random.SeedSequence(seed).generate_state(6).tolist()
    import_compiler()
    with fork_global_rng(seeds[0]) if settings.uses_global_rng else contextlib.nullcontext():
        stopping, seen, unseen = settings.early_stopping, table, validation
        if validation is None and (stopping is not None or settings.refine is not None):
            most = HELD_OUT_ROWS if stopping is None else len(table)  # a refinement reads no more
            seen, unseen = split(table, seeds[1], most)
        scaling, moments = scale(settings, table, seeds[1], start)
        rows = Rows(seen, scaling, settings.device)
        batch_size = min(settings.batch_size, len(rows))
        known = References(settings, rows, table.targets is not None, seeds[1])
        objective = build(settings, table, rows, batch_size, seeds[2], start)
        objective.linear_weights = known.weights
        objective.linear_limits = known.limits(rows, objective.channel.scale, seeds[1])
        for item in (*checkpoints, *settings.callbacks):
            if isinstance(item, Quiet) and hasattr(item, "check"):
                item.check(identity(settings, table, validation, objective))
        shuffle = make_generator(seeds[3])
        batches = Batches(rows, batch_size, shuffle, known.of(rows))
        watched, first = None, []
        if unseen is not None and (stopping is not None or validation is not None):
            others = Rows(unseen, scaling, settings.device)
            watched = Batches(others, batch_size, shuffle, known.of(others))
            first = [] if stopping is None else [HeldOut(stopping)]
        net = train_net(
            objective,
            settings,
            batches,
            [*first, *settings.callbacks, *told],
            start,
            seeds[4],
            epochs=settings.max_epochs or auto_epochs(len(rows), batch_size),
            last=checkpoints,
            held_out=watched,
        )
        # Twice the size of the weights: kept only where a user wants to go on from it.
        optimizer = training_state(net) if settings.warm_start else None
        state = {"optimizer": optimizer, "moments": moments, "n_seen": len(table), "seed": seed}
        held_out = None if unseen is None else unseen.X
        trained = conclude(net, rows, settings, seeds[5], state, held_out=held_out)
        for checkpoint in checkpoints:
            checkpoint.remove()
        return trained


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
    table: Table, settings: Settings, seed: int, told: Sequence[object], start: Trained | None
) -> Trained:
    """Go once over new rows, and finalize the statistics of all rows so far."""
    state = dict(start.state) if start else {}
    state |= {"seed": state.get("seed", seed), "call": state.get("call", 0) + 1}
    seeds = np.random.SeedSequence([state["seed"], state["call"]]).generate_state(5).tolist()
    import_compiler()
    with fork_global_rng(seeds[0]) if settings.uses_global_rng else contextlib.nullcontext():
        scaling, moments = scale(settings, table, seeds[1], start, moving=True)
        kept, targets, weights, X = state.get("kept"), table.targets, None, table.X
        n_seen, n_before, n_new = state.get("n_seen", 0), state.get("n_streamed", 0), len(table)
        if kept is not None:
            n_kept, X = len(kept), StackedRows(X, kept)
            if n_before > n_kept:  # a row that is kept stands for those that are not
                weights = np.repeat([1.0, n_before / n_kept], [n_new, n_kept])
            if targets is not None:
                unknown = UNLABELLED if targets.ndim == 1 else np.nan
                earlier = np.full((n_kept, *targets.shape[1:]), unknown, targets.dtype)
                targets = np.concatenate([targets, earlier])
        rows = Rows(Table(X, targets, weights, table.shape), scaling, settings.device)
        prior = None
        if start is None:
            batch_size = min(settings.batch_size, len(rows))
            objective = build(settings, table, rows, batch_size, seeds[2], None)
        else:
            batch_size, objective = start.batch_size, copy.deepcopy(start.net.module_)
            objective.precision = settings.precision
            # What a fit knew of its rows, as long as few rows have come since.
            count = min(n_seen, PRIOR_ROWS * objective.normalizer.mean.numel()) - n_before
            prior = Prior.of(objective, count) if count > 0 else None
        known = References(settings, rows, targets is not None, seeds[1])
        objective.linear_weights, objective.linear_limits = known.weights, None
        objective.match_weight = settings.match_weight
        chunk = _Chunk(rows, batch_size, make_generator(seeds[4]), known.of(rows), n_new=n_new)
        callbacks = [*settings.callbacks, *told]
        net = train_net(objective, settings, chunk, callbacks, start, seeds[3])
        state |= {"optimizer": training_state(net), "step": net.step_, "moments": moments}
        state |= {"n_streamed": n_before + n_new, "n_seen": n_seen + n_new}
        state["kept"] = _keep(kept, n_before, table.X, batch_size, seeds[1])
        trained = conclude(net, rows, settings, seeds[1], state, prior=prior)
        # A chunk of fewer rows leaves the size of batches as it is.
        return replace(trained, batch_size=batch_size)


def _keep(
    kept: np.ndarray | None, n_before: int, new: RowSource, batch_size: int, seed: int
) -> np.ndarray:
    """Return a uniform sample of all rows of the stream.

    By algorithm R of J. S. Vitter, "Random Sampling with a Reservoir", ACM Transactions on
    Mathematical Software 11 (1985).
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


def fitted_so_far(net: DIMNet, batches: Batches, **further: object) -> dict[str, object]:
    """Return the attributes of an estimator that is fitted, had training ended now; all copies."""
    rows, objective = batches.rows, copy.deepcopy(net.module_)
    finalize_statistics(objective, rows, batches.batch_size, 0)
    found = {"net_": net, "encoder_": embed_with(rows, objective.eval()), "refinement_": None}
    found |= {"channel_": objective.channel, "batch_size_": batches.batch_size}
    return found | {"n_components_": objective.normalizer.mean.numel()} | further


def embed_with(rows: Rows, objective: Objective) -> Embedder:
    """Return the embedder of an objective that was trained on these rows, on the CPU."""
    embedder = Embedder(rows.scaling, objective.encoder, objective.normalizer).cpu().eval()
    embedder.row_shape = rows.shape
    embedder.check_double(rows.X)
    return embedder


def conclude(
    net: DIMNet,
    rows: Rows,
    settings: Settings,
    seed: int,
    state: dict[str, Any],
    *,
    prior: Prior | None = None,
    held_out: RowSource | None = None,
) -> Trained:
    """Set the statistics of a trained net, measure its information, and refine its embedding."""
    net.optimizer_.state.clear()
    objective, size = net.module_, net.batch_size
    spread = finalize_statistics(objective, rows, size, seed, prior)
    objective.eval()
    embedded = (objective.embed(x) for x in sample(rows, size, seed))
    nats = channel_nats(embedded, objective.channel, seed)
    message = check_collapse(objective, rows, size, nats, spread)
    net.to_cpu_and_release_data()
    embedder = embed_with(rows, objective)
    refinement = refine(settings, embedder, rows, seed, held_out)
    return Trained(net, embedder, size, state, nats, refinement, message)
