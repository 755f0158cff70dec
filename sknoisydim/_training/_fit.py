"""Trains on a whole table: builds the objective, runs the net, and returns what a fit leaves."""

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
from sknoisydim._model import Embedder
from sknoisydim._modules import fork_global_rng, import_compiler, make_generator
from sknoisydim._net._callbacks import HeldOut, Progress, Quiet
from sknoisydim._net._checkpoint import FitCheckpoint
from sknoisydim._net._skorch import DIMNet
from sknoisydim._net._warm_start import WarmStart, training_state
from sknoisydim._objective import Objective, channel_nats
from sknoisydim._optimizers import optimizer_arguments
from sknoisydim._references import References
from sknoisydim._settings import Settings, auto_epochs
from sknoisydim._sources import RowSource, missing_columns
from sknoisydim._training._identity import identity
from sknoisydim._training._statistics import (
    HELD_OUT_ROWS,
    Prior,
    check_collapse,
    finalize_statistics,
    refine,
    sample,
)
from sknoisydim.augmentations import prepare_view
from sknoisydim.encoders import IndicateMissing, check_output
from sknoisydim.noise import Channel
from sknoisydim.refinement._rotation import MIN_HELD_OUT
from sknoisydim.scaling import (
    BY_MOMENTS,
    Moments,
    Standardize,
    column_moments,
    fit_scaling,
    from_moments,
)

# Rows that a view may look at before training.
VIEW_ROWS = 2**12
# Share of the rows that is held out of training, that of scikit-learn's networks.
HELD_OUT_SHARE = 0.1


def missing_cells(
    settings: Settings, table: Table, scaling: nn.Module, known: nn.Module | None = None
) -> IndicateMissing | None:
    """Return what shows the encoder the missing cells of a table, or of `known`, or None."""
    wanted = settings.takes_missing
    if known is not None and isinstance(known, IndicateMissing) != wanted:
        raise ValueError(
            "warm_start=True goes on from the last fit's weights, and they are of another network "
            f"than missing={settings.missing!r} asks for. Use warm_start=False."
        )
    if not wanted:
        return None
    if isinstance(known, IndicateMissing):
        columns, fill = known.columns.cpu().clone(), known.fill.cpu().clone()
    else:
        columns = torch.from_numpy(missing_columns(table.X))
        fill = torch.zeros(table.X.shape[1], dtype=torch.float32)
        # The zero of a `Standardize` is the mean, also when a stream moves it.
        if not isinstance(scaling, Standardize):
            mean = column_moments(table.X, table.weights).mean
            with torch.no_grad():
                fill = scaling(torch.from_numpy(mean)[None])[0].float()
    return IndicateMissing(nn.Identity(), columns, fill)


def build(
    settings: Settings,
    rows: Rows,
    channel: Channel,
    generator: torch.Generator,
    front: IndicateMissing | None = None,
    linear_weights: tuple[float, ...] = (),
) -> Objective:
    """Return the objective for these rows, with weights from the generator."""
    example = rows.take(torch.arange(min(2, len(rows)))).cpu()
    d = settings.n_components
    # Training is in float32, whatever torch's default dtype or that of a user's module is.
    example = example if front is None else front.widen(example)
    width = rows.shape or example[0].numel()
    encoder = settings.encoder.build(width, d, generator).float()
    check_output(encoder, example, d)
    if front is not None:
        front.encoder = encoder
        encoder = front
    critic: nn.Module | None = None
    if settings.clean_weight < 1 or not getattr(channel, "exact", True):
        critic = settings.critic.build(d, channel, generator)
        if not isinstance(critic, nn.Module):
            raise TypeError(
                f"critic={settings.critic!r} built a {type(critic).__name__}, not a torch module."
            )
    some = rows.take(torch.randperm(len(rows), generator=generator)[:VIEW_ROWS])
    objective = Objective(
        encoder,
        settings.normalization.build(d),
        channel,
        critic,
        settings.bound,
        prepare_view(settings.augmentation, some),
        settings.clean_weight,
        linear_weights,
        settings.match_weight,
    )
    objective.precision = settings.precision
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise ValueError(
            "there is nothing to train: no parameter of the encoder has requires_grad=True, and "
            f"with clean_weight={settings.clean_weight:g} and this critic there is no other. "
            "Unfreeze a layer of the encoder."
        )
    return objective


def load(objective: Objective, weights: Mapping[str, torch.Tensor]) -> None:
    """Give an objective the weights of the last fit, as far as both have them."""
    own = objective.state_dict()
    # What only helps in training starts afresh where there was none, and is dropped where there is
    # no use for it.
    for part in ("critic.", "bound.", "augmentation."):
        old, new = ({name for name in d if name.startswith(part)} for d in (weights, own))
        if not old or not new:
            weights = {name: value for name, value in weights.items() if name not in old}
            weights |= {name: own[name] for name in new}
    try:
        objective.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            "warm_start=True goes on from the last fit's weights, and they do not fit the network "
            "that the parameters ask for, such as another n_components or encoder. Use "
            "warm_start=False."
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

    @property
    def moments(self) -> Moments | None:
        """Of the columns, where that is all that the scaling needs."""
        moments = self.state.get("moments")
        return None if moments is None else Moments(*moments)


def split(table: Table, seed: int, most: int) -> tuple[Table, Table | None]:
    """Return the rows to train on, and those held out, drawn by their weights: `most` at most.

    The whole table and None where either would be too few to tell anything.
    """
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


def scale(settings: Settings, table: Table, seed: int) -> tuple[nn.Module, Moments | None]:
    """Return the fitted scaling, and the moments of the columns where that is all it needs."""
    if isinstance(settings.scaling, str) and settings.scaling in BY_MOMENTS:
        moments = column_moments(table.X, table.weights)
        return from_moments(settings.scaling, moments), moments
    missing = settings.takes_missing
    return fit_scaling(settings.scaling, table.X, seed % 2**31, table.weights, missing), None


@contextlib.contextmanager
def isolated_rng(settings: Settings, seed: int) -> Iterator[None]:
    """Keep a user's module from the global generators, and the compiler from the filters."""
    import_compiler()
    context = fork_global_rng(seed) if settings.uses_global_rng else contextlib.nullcontext()
    with context:
        yield


def train_net(
    objective: Objective,
    settings: Settings,
    batches: Batches,
    callbacks: Sequence[object],
    start: Trained | None,
    *,
    last: Sequence[object] = (),
    history: Sequence[object] = (),
    step: int = 0,
    **options: Any,
) -> DIMNet:
    """Return a net that has trained an objective behind the steps and epochs of another."""
    state = None if start is None else start.state.get("optimizer")
    warm = [] if state is None else [WarmStart(state)]
    net = DIMNet(
        objective,
        batch_size=batches.batch_size,
        lr=settings.lr,
        optimizer=settings.optimizer,
        device=str(settings.device),
        callbacks=[*callbacks, *warm, *last],
        **options,
        **optimizer_arguments(settings.optimizer),
    )
    net.initialize()
    net.history.extend(history)
    net.step_ = step
    try:
        net.partial_fit(batches)
    finally:
        for item in callbacks:
            if isinstance(item, Progress):
                item.close()
    net.held_out = None  # rows of the table, which a pickled net must not carry along
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
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(6)]
    with isolated_rng(settings, seeds[0]):
        device, stopping = settings.device, settings.early_stopping
        seen, unseen = table, validation
        if validation is None and (stopping is not None or settings.refine is not None):
            most = HELD_OUT_ROWS if stopping is None else len(table)  # a refinement reads no more
            seen, unseen = split(table, seeds[1], most)
        if start is None:
            scaling, moments = scale(settings, table, seeds[1])
        else:
            scaling, moments = start.embedder.scaling, start.moments
        last = None if start is None else start.embedder.encoder
        front = missing_cells(settings, table, scaling, last)
        rows = Rows(seen, scaling, device)
        batch_size = min(settings.batch_size, len(rows))
        channel = settings.noise.build(settings.n_components, batch_size)
        known = References(settings, rows, table.targets is not None, seeds[1])
        objective = build(settings, rows, channel, make_generator(seeds[2]), front, known.weights)
        objective.linear_limits = known.limits(rows, objective.channel.scale, seeds[1])
        if start is not None:
            load(objective, start.net.module_.state_dict())
        objective = objective.to(device, torch.float32)
        for item in (*checkpoints, *settings.callbacks):
            if isinstance(item, Quiet) and hasattr(item, "check"):
                item.check(identity(settings, table, validation, objective))

        shuffle = make_generator(seeds[3])
        batches = Batches(rows, batch_size, shuffle, known.of(rows))
        watched = None
        if unseen is not None and (stopping is not None or validation is not None):
            others = Rows(unseen, scaling, device)
            watched = Batches(others, batch_size, shuffle, known.of(others))
        epochs = settings.max_epochs or auto_epochs(len(rows), batch_size)
        first = [] if stopping is None or watched is None else [HeldOut(stopping)]
        net = train_net(
            objective,
            settings,
            batches,
            [*first, *settings.callbacks, *told],
            start,
            last=checkpoints,
            generator=make_generator(seeds[4], device),
            n_steps=epochs * len(batches),
            max_epochs=epochs,
            held_out=watched,
        )
        state = {
            "moments": None if moments is None else tuple(moments),
            # Twice the size of the weights: kept only where a user wants to go on from it.
            "optimizer": training_state(net) if settings.warm_start else None,
            "n_seen": len(table),
            "seed": seed,
        }
        held_out = None if unseen is None else unseen.X
        trained = conclude(net, rows, settings, seeds[5], state, held_out=held_out)
        for checkpoint in checkpoints:
            checkpoint.remove()
        return trained


def fitted_so_far(net: DIMNet, batches: Batches, **further: object) -> dict[str, object]:
    """Return the attributes of an estimator that is fitted, had training ended now; all copies."""
    rows, objective = batches.rows, copy.deepcopy(net.module_)
    finalize_statistics(objective, rows, batches.batch_size, 0)
    embedder = embed_with(rows, objective.eval())
    return {
        "net_": net,
        "encoder_": embedder,
        "refinement_": None,
        "channel_": objective.channel,
        "batch_size_": batches.batch_size,
        "n_components_": objective.normalizer.mean.numel(),
        **further,
    }


def embed_with(rows: Rows, objective: Objective) -> Embedder:
    """Return the embedder of an objective that was trained on these rows, on the CPU."""
    embedder = Embedder(rows.scaling, objective.encoder, objective.normalizer)
    embedder.row_shape = rows.shape
    embedder = embedder.cpu().eval()
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
