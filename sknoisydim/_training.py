"""From validated rows to a trained encoder: builds the objective, runs the net, sets statistics."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sknoisydim._data import Batches, Rows, SameClass
from sknoisydim._inference import SLICE_ROWS, Embedder, embeddings
from sknoisydim._isolation import borrowed_global_generator, make_generator
from sknoisydim._labels import UNLABELLED
from sknoisydim._net import DIMNet, HeldOut
from sknoisydim._objective import Objective
from sknoisydim._optimizers import optimizer_arguments
from sknoisydim._settings import Settings, auto_epochs
from sknoisydim.augmentations import fit_view
from sknoisydim.bounds import infonce
from sknoisydim.encoders import check_output, recalibrate
from sknoisydim.scaling import fit_scaling

# Fewer held-out rows than this say nothing about a law, so there is no split.
MIN_HELD_OUT = 20
# Rows on which the information of a fit is measured: more do not move its third digit.
INFORMATION_ROWS = 2**15
# Noisy rows that a score looks at, at least.
SCORE_ROWS = 2**14
# Rows that a refinement is fitted to: minutes for more would buy little.
REFINEMENT_ROWS = 2**15
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

    @property
    def history(self) -> dict[str, list[Any]]:
        """The per-epoch records of skorch as a dict of lists."""
        rows = self.net.history
        return {name: [row[name] for row in rows] for name in rows[0] if name != "batches"}


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
    callbacks: Sequence[Any],
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
    callbacks : sequence
        skorch's.
    announce : callable
        capacity -> list of further callbacks.
    start : Start, optional
        Weights and scaling to go on from.

    Raises
    ------
    ValueError
        If the weights to go on from do not fit, the information stops being a number, or a
        component does not fit the data.
    """
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(6)]
    fence = borrowed_global_generator(seeds[0]) if settings.foreign else contextlib.nullcontext()
    # The caller may be inside torch.no_grad() or torch.inference_mode().
    with fence, torch.inference_mode(False), torch.enable_grad():
        return _train(X, codes, settings, seeds, callbacks, announce, start)


def _train(
    X: np.ndarray,
    codes: np.ndarray | None,
    settings: Settings,
    seeds: Sequence[int],
    callbacks: Sequence[Any],
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
    validation = None
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
        callbacks=[*callbacks, *announce(channel.capacity)],
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
    recalibrate(objective.encoder, _sample(rows, batch_size, seeds[5]))
    settle(objective, rows)
    objective.eval()
    partners = _partners(codes, kept, 1.0)
    if partners is not None:
        align(objective, Batches(rows, batch_size, make_generator(seeds[5]), partners))
    nats = measure(
        (objective.embed(x) for x in _sample(rows, batch_size, seeds[5])), channel, seeds[5]
    )
    embedder = Embedder(scaling, objective.encoder, objective.normalizer).cpu().eval()
    refinement = refine(settings, embedder, X, kept, seeds[5])
    return Trained(net, embedder, channel, batch_size, nats, refinement)


def _build(settings: Settings, rows: Rows, channel: Any, generator: torch.Generator) -> Objective:
    example = rows.take(torch.arange(min(2, len(rows)))).cpu()
    d = settings.n_components
    # Training is in float32, whatever torch's default dtype or that of a user's module is.
    encoder = settings.encoder.build(example[0].numel(), d, generator).float()
    check_output(encoder, example, d)
    critic: nn.Module | None = None
    if settings.clean_weight < 1:
        critic = settings.critic.build(d, channel, generator)
    return Objective(
        encoder,
        settings.normalization.build(d),
        channel,
        critic,
        settings.bound,
        fit_view(settings.augmentation, _some(rows, generator)),
        settings.clean_weight,
    )


def _some(rows: Rows, generator: torch.Generator) -> torch.Tensor:
    return rows.take(torch.randperm(len(rows), generator=generator)[:VIEW_ROWS])


def _load(objective: Objective, weights: Mapping[str, torch.Tensor]) -> None:
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


def settle(objective: Objective, rows: Rows) -> None:
    """Normalise by the exact statistics of the clean rows, as `transform` meets them.

    The law that has to match is that of f(X); running averages over views are wrong for it.

    Raises
    ------
    ValueError
        If the embedding is not finite.
    """
    encoder = objective.encoder
    encoder.eval()
    d = objective.normalizer.mean.numel()
    shift = total = torch.zeros(d, dtype=torch.float64)
    products = torch.zeros(d, d, dtype=torch.float64)
    with torch.no_grad():
        for number, batch in enumerate(rows.in_order(SLICE_ROWS)):
            output = encoder(batch).double().cpu()
            if number == 0:
                shift = output.mean(0)  # a mean far from zero would cancel in the products
            output = output - shift
            total = total + output.sum(0)
            products = products + output.T @ output
    mean = total / len(rows)
    covariance = products / len(rows) - torch.outer(mean, mean)
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise ValueError(
            "training diverged: the embedding of the training rows is not finite. Use a smaller "
            "lr or a larger noise."
        )
    objective.normalizer.fix(mean + shift, covariance)


def align(objective: Objective, pairs: Batches) -> None:
    """Turn a white embedding so that components are uncorrelated within the classes, too.

    N(0, I) has no preferred axes, so these are free to choose. Taken as the principal axes of the
    difference of two rows of a class, the first components tell classes apart best, and models that
    look at one component at a time, such as naive Bayes, lose nothing by doing so.
    """
    if not objective.normalizer.isotropic:
        return
    total = torch.zeros_like(objective.normalizer.matrix, dtype=torch.float64, device="cpu")
    with torch.no_grad():
        for x, partners in itertools.islice(pairs, max(1, INFORMATION_ROWS // pairs.batch_size)):
            change = (objective.embed(partners) - objective.embed(x)).double().cpu()
            total += change.T @ change
    axes = torch.linalg.eigh(total).eigenvectors
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    objective.normalizer.rotate((axes * signs).T)


def refine(
    settings: Settings, embedder: Embedder, X: np.ndarray, kept: np.ndarray, seed: int
) -> Any:
    """Return the map that finishes the law of the clean training rows, or None.

    Raises
    ------
    ImportError
        If it needs a package that is not installed.
    """
    if settings.refine is None:
        return None
    if len(kept) > REFINEMENT_ROWS:
        kept = np.random.default_rng(seed).choice(kept, REFINEMENT_ROWS, replace=False)
    clean = [z for _, z in embeddings(embedder, X[kept], settings.device)]
    return settings.refine.build(np.concatenate(clean), seed)


def _sample(rows: Rows, batch_size: int, seed: int) -> Any:
    order = torch.randperm(len(rows), generator=make_generator(seed))[:INFORMATION_ROWS]
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield rows.take(order[start : start + batch_size])


def measure(embedded: Any, channel: Any, seed: int) -> float:
    """Return the mean information, in nats, that batches of embeddings send through the channel.

    InfoNCE with the channel's own density, so at most the log of the batch size.
    """
    values = []
    generator: torch.Generator | None = None
    with torch.no_grad():
        for clean in embedded:
            if generator is None:
                generator = make_generator(seed, clean.device)
            noisy = channel.transmit(clean, generator)
            values.append(infonce(channel.log_ratio(clean, noisy)).item())
    return float(np.mean(values))


def information_share(z: np.ndarray, channel: Any, batch_size: int) -> float:
    """Return the information of embeddings z (n, d) over what a batch can show of the capacity."""
    size = min(batch_size, len(z))
    # Rows of a table often come sorted; a batch of one class would show too little.
    shuffled = torch.from_numpy(z[np.random.default_rng(0).permutation(len(z))])
    batches = shuffled[: len(z) // size * size].split(size)
    # A small table gets several draws of the noise, so that a share of few nats is stable too.
    nats = measure(batches * -(-SCORE_ROWS // len(z)), channel, 0)
    return float(np.clip(nats / min(channel.capacity, np.log(size)), 0, 1))
