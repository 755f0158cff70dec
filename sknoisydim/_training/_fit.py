"""Builds the objective, runs the net, and puts together what a fit leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sknoisydim._data import Batches, Rows, SameClass
from sknoisydim._inference import Embedder
from sknoisydim._isolation import borrowed_global_generator, make_generator
from sknoisydim._labels import UNLABELLED
from sknoisydim._net import DIMNet, HeldOut
from sknoisydim._objective import Objective
from sknoisydim._optimizers import optimizer_arguments
from sknoisydim._settings import Settings, auto_epochs
from sknoisydim.augmentations import fit_view
from sknoisydim.encoders import check_output, recalibrate
from sknoisydim.scaling import fit_scaling

from ._statistics import align, find_doubt, measure, refine, sample, settle

# Fewer held-out rows than this say nothing about a law, so there is no split.
MIN_HELD_OUT = 20
# Rows that a view may look at before training.
VIEW_ROWS = 2**12


@dataclass(frozen=True)
class Start:
    """What a fit may go on from: weights, and the input scaling that they know."""

    weights: Mapping[str, torch.Tensor]
    scaling: nn.Module

    @classmethod
    def of(cls, net: DIMNet, embedder: Embedder) -> Start:
        """Go on from a fit."""
        return cls(net.module_.state_dict(), embedder.scaling)


@dataclass(frozen=True)
class Trained:
    """What a fit leaves behind."""

    net: DIMNet
    embedder: Embedder
    channel: Any
    batch_size: int
    information: float
    refinement: Any
    doubt: str | None

    @property
    def history(self) -> dict[str, list[Any]]:
        """The per-epoch records of skorch as a dict of lists, None where an epoch has no record."""
        rows = self.net.history
        names = dict.fromkeys(name for row in rows for name in row if name != "batches")
        return {name: [row.get(name) for row in rows] for name in names}


def split(n_rows: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the positions of rows to train on, and of rows held out (None with too few rows)."""
    n_held_out = round(fraction * n_rows)
    if n_held_out < MIN_HELD_OUT or n_rows - n_held_out < MIN_HELD_OUT:
        return np.arange(n_rows), None
    order = np.random.default_rng(seed).permutation(n_rows)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def train(
    X: np.ndarray,
    codes: np.ndarray | None,
    settings: Settings,
    seed: int,
    announce: Any,
    start: Start | None = None,
) -> Trained:
    """Train an encoder on rows X (n, p).

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Finite rows.
    codes : ndarray of int of shape (n,) or None
        Class of each row, -1 for unlabelled; None without supervision.
    settings : Settings
        What to train, and how.
    seed : int
        Fixes everything that is drawn.
    announce : callable
        (capacity, batch size, clean weight) -> list of further callbacks.
    start : Start, optional
        Weights and scaling to go on from.

    Raises
    ------
    ValueError
        If the weights to go on from do not fit, the information stops being a number, a component
        does not fit the data, or there is nothing to train.
    """
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(6)]
    fence = borrowed_global_generator(seeds[0]) if settings.foreign else contextlib.nullcontext()
    # The caller may be inside torch.no_grad() or torch.inference_mode().
    with fence, torch.inference_mode(False), torch.enable_grad():
        return _train(X, codes, settings, seeds, announce, start)


def _train(
    X: np.ndarray,
    codes: np.ndarray | None,
    settings: Settings,
    seeds: Sequence[int],
    announce: Any,
    start: Start | None,
) -> Trained:
    device = settings.device
    kept, held_out = np.arange(len(X)), None
    stopping = settings.early_stopping
    if stopping is not None:
        kept, held_out = split(len(X), stopping.fraction, seeds[1])
    scaling = start.scaling if start else fit_scaling(settings.scaling, X, seeds[1] % 2**31)
    rows = Rows(X, scaling, device, kept)
    batch_size = min(settings.batch_size, len(rows))
    channel = settings.noise.build(settings.n_components, batch_size)
    objective = _build(settings, rows, channel, make_generator(seeds[2]))
    if start is not None:
        _load(objective, start.weights)
    objective = objective.to(device, torch.float32)

    shuffle = make_generator(seeds[3])
    batches = Batches(rows, batch_size, shuffle, _partners(codes, kept, settings.supervision))
    epochs = settings.max_epochs or auto_epochs(len(rows), batch_size)
    callbacks, validation = settings.callbacks, None
    if stopping is not None and held_out is not None:
        others = Rows(X, scaling, device, held_out)
        partners = _partners(codes, held_out, settings.supervision)
        validation = Batches(others, batch_size, shuffle, partners, shuffle=False)
        callbacks = [HeldOut(stopping.patience, stopping.tol), *callbacks]
    net = DIMNet(
        objective,
        generator=make_generator(seeds[4], device),
        n_steps=epochs * len(batches),
        held_out=validation,
        max_epochs=epochs,
        batch_size=batch_size,
        lr=settings.lr,
        optimizer=settings.optimizer,
        device=str(device),
        callbacks=[*callbacks, *announce(channel.capacity, batch_size, settings.clean_weight)],
        **optimizer_arguments(settings.optimizer, settings.weight_decay),
    )
    try:
        net.fit(batches)
    finally:
        for _, callback in getattr(net, "callbacks_", []):
            getattr(callback, "close", lambda: None)()
    net.optimizer_.state.clear()  # twice the size of the weights, and nothing goes on from it
    net.held_out = None  # rows of the table, which a fitted and pickled net must not carry along
    objective = net.module_
    recalibrate(objective.encoder, sample(rows, batch_size, seeds[5]))
    spread = settle(objective, rows)
    objective.eval()
    partners = _partners(codes, kept, 1.0)
    if partners is not None:
        align(objective, Batches(rows, batch_size, make_generator(seeds[5]), partners))
    nats = measure(
        (objective.embed(x) for x in sample(rows, batch_size, seeds[5])), channel, seeds[5]
    )
    doubt = find_doubt(objective, rows, batch_size, nats, spread)
    embedder = Embedder(scaling, objective.encoder, objective.normalizer).cpu().eval()
    embedder.check_double(X)
    refinement = refine(settings, embedder, X, kept, seeds[5])
    return Trained(net, embedder, channel, batch_size, nats, refinement, doubt)


def _build(settings: Settings, rows: Rows, channel: Any, generator: torch.Generator) -> Objective:
    example = rows.take(torch.arange(min(2, len(rows)))).cpu()
    d = settings.n_components
    # Training is in float32, whatever torch's default dtype or that of a user's module is.
    encoder = settings.encoder.build(example[0].numel(), d, generator).float()
    check_output(encoder, example, d)
    critic: nn.Module | None = None
    if settings.clean_weight < 1 or not getattr(channel, "exact", True):
        critic = settings.critic.build(d, channel, generator)
        if not isinstance(critic, nn.Module):
            raise TypeError(
                f"critic={settings.critic!r} built a {type(critic).__name__}, not a torch module."
            )
    objective = Objective(
        encoder,
        settings.normalization.build(d),
        channel,
        critic,
        settings.bound,
        fit_view(settings.augmentation, _some(rows, generator)),
        settings.clean_weight,
    )
    if not any(parameter.requires_grad for parameter in objective.parameters()):
        raise ValueError(
            "there is nothing to train: no parameter of the encoder has requires_grad=True, and "
            f"with clean_weight={settings.clean_weight:g} and this critic there is no other. "
            "Unfreeze a layer of the encoder."
        )
    return objective


def _some(rows: Rows, generator: torch.Generator) -> torch.Tensor:
    return rows.take(torch.randperm(len(rows), generator=generator)[:VIEW_ROWS])


def _load(objective: Objective, weights: Mapping[str, torch.Tensor]) -> None:
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
            f"that the parameters and the table ask for. Use warm_start=False. {error}"
        ) from error


def _partners(codes: np.ndarray | None, index: np.ndarray, probability: float) -> SameClass | None:
    if codes is None or codes[index].max() == UNLABELLED:
        return None
    return SameClass(codes[index], probability)
