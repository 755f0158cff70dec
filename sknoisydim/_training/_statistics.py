"""What follows training: exact statistics, and how much the embedding tells."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import nn

from sknoisydim._data import Rows
from sknoisydim._model import SLICE_ROWS, Embedder, embeddings
from sknoisydim._modules import make_generator
from sknoisydim._objective import Objective, information_share
from sknoisydim._settings import Settings
from sknoisydim._sources import ChosenRows, RowSource
from sknoisydim.encoders import recalibrate

# Rows on which the information of a fit is measured: more do not move its third digit.
INFORMATION_ROWS = 2**15
# Rows that a refinement is fitted to, and that it stops by: minutes for more would buy little.
REFINEMENT_ROWS, HELD_OUT_ROWS = 2**15, 2**12
# A channel with less capacity than this, in nats, cannot shape anything.
LEAST_CAPACITY = 0.01
# Share of the information that can be reached, below which an embedding tells nothing.
LEAST_SHARE = 0.05
# Variance of a normalised component below which it has none: missing dimensions have 1e-11.
LEAST_VARIANCE = 1e-4
# With fewer rows neither is checked.
MIN_CHECKED = 20


class Prior(NamedTuple):
    """Statistics of rows that are gone, counted as `n_rows`: what a few new ones are pooled with.

    Mean and covariance are those of the encoder's output, `layers` those of its normalisation.
    """

    n_rows: float
    mean: torch.Tensor
    covariance: torch.Tensor
    layers: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, objective: Objective, n_rows: float) -> Self:
        """Return those of an objective whose statistics are final."""
        normalizer = objective.normalizer
        # The matrix made the covariance the identity, times the square of the deviation.
        back = torch.linalg.inv(normalizer.matrix.double().cpu())
        covariance = getattr(normalizer, "deviation", 1.0) ** 2 * back @ back.T
        layers = {name: value.clone() for name, value in _running(objective).items()}
        return cls(n_rows, normalizer.mean.double().cpu(), covariance, layers)


def _running(objective: Objective) -> dict[str, torch.Tensor]:
    buffers, ends = objective.encoder.named_buffers(), ("running_mean", "running_var")
    return {name: value for name, value in buffers if name.endswith(ends)}


def finalize_statistics(
    objective: Objective, rows: Rows, batch_size: int, seed: int, prior: Prior | None = None
) -> torch.Tensor:
    """Normalise by the exact statistics of the clean rows, pooled with a `prior`.

    Returns the variances (d,) of the normalised embedding, along its principal axes where the whole
    covariance is normalised: they are 1, and less where the ridge counts.
    """
    recalibrate(objective.encoder, sample(rows, batch_size, seed))
    if prior is not None:
        share = len(rows) / (len(rows) + prior.n_rows)
        for name, value in _running(objective).items():
            value.lerp_(prior.layers[name].to(value), 1 - share)
    count, mean, covariance = _moments(objective, rows)
    if prior is not None:
        share = count / (count + prior.n_rows)
        change = mean - prior.mean
        mean = prior.mean + share * change
        covariance = (1 - share) * prior.covariance + share * covariance
        covariance = covariance + share * (1 - share) * torch.outer(change, change)
    if not (mean.isfinite().all() and covariance.isfinite().all()):
        raise ValueError(
            "training diverged: the embedding of the training rows is not finite. Use a smaller "
            "lr, a larger noise, or scaling='standard'."
        )
    objective.normalizer.set_statistics(mean, covariance)
    matrix = objective.normalizer.matrix.double().cpu()
    normalised = matrix @ covariance @ matrix.T
    isotropic = objective.normalizer.isotropic
    return torch.linalg.eigvalsh(normalised) if isotropic else normalised.diagonal()


def _moments(objective: Objective, rows: Rows) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Return the number of rows, and mean and covariance of what the encoder makes of them."""
    encoder, d = objective.encoder.eval(), objective.normalizer.mean.numel()
    shift = total = torch.zeros(d, dtype=torch.float64)
    products = torch.zeros(d, d, dtype=torch.float64)
    weights = None if rows.weights is None else rows.weights.split(SLICE_ROWS)
    with torch.no_grad():
        for number, batch in enumerate(rows.in_order(SLICE_ROWS)):
            output = encoder(batch).double().cpu()
            if number == 0:
                shift = output.mean(0)  # a mean far from zero would cancel in the products
            output = output - shift
            counted = output if weights is None else output * weights[number][:, None]
            total = total + counted.sum(0)
            products = products + output.T @ counted
    count = len(rows) if rows.weights is None else rows.weights.sum().item()
    mean = total / count
    return count, mean + shift, products / count - torch.outer(mean, mean)


def check_collapse(
    objective: Objective, rows: Rows, batch_size: int, nats: float, variances: torch.Tensor
) -> str | None:
    """Return the message of a `ConvergenceWarning`, or None where training did not collapse."""
    n, d, channel = len(rows), len(variances), objective.channel
    if channel.capacity < LEAST_CAPACITY:
        return (
            f"the channel capacity is {channel.capacity:.2g} nats, too little to train an encoder: "
            f"decrease noise (now {channel.scale:.2g}), or use noise='auto'."
        )
    if n < MIN_CHECKED:
        return None
    limit = min(channel.capacity, math.log(batch_size))
    if nats < LEAST_SHARE * limit:
        # A few batches may show this little by chance: look again, at more of the noise.
        with torch.no_grad():
            z = torch.cat([objective.embed(x) for x in sample(rows, batch_size, 0)]).cpu().numpy()
        share = information_share(z, channel, batch_size)
        if share < LEAST_SHARE:
            view = ", a weaker augmentation, a larger clean_weight"
            return (
                f"the embedding has collapsed: its mutual information is {share:.1%} of the "
                f"{limit:.2f} nats that it could be. The samples are nearly equal, or else change "
                f"the training: a smaller lr, more epochs{view * (objective.clean_weight < 1)}."
            )
    if n_flat := int((variances < LEAST_VARIANCE).sum()):
        return (
            f"{n_flat} of the {d} components have no variance: samples or encoder have fewer "
            "dimensions, or training has collapsed. Use fewer components, a wider encoder, or a "
            "smaller lr."
        )
    return None


def refine(
    settings: Settings, embedder: Embedder, rows: Rows, seed: int, held_out: RowSource | None
) -> nn.Module | None:
    """Return the map that refines the distribution of the clean training rows, or None."""
    if settings.refine is None:
        return None
    drawn = rows.draw(min(len(rows), REFINEMENT_ROWS), make_generator(seed)).long()
    chosen = ChosenRows(rows.X, drawn.sort().values.numpy())  # as files are read fastest
    clean, unseen = embeddings(embedder, chosen, settings.device), None
    if held_out is not None:
        if len(held_out) > HELD_OUT_ROWS:
            some = np.random.default_rng(seed).choice(len(held_out), HELD_OUT_ROWS, replace=False)
            held_out = ChosenRows(held_out, some)
        unseen = embeddings(embedder, held_out, settings.device)
    built = settings.refine.build(clean, seed, unseen)
    methods = ("__call__", "inverse", "log_abs_det")
    if not all(callable(getattr(built, name, None)) for name in methods):
        raise TypeError(
            f"refine={settings.refine!r} built a {type(built).__name__}; it has to build a torch "
            "module of embeddings, with inverse and log_abs_det."
        )
    return built


def sample(rows: Rows, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield full batches of clean rows drawn at random, up to INFORMATION_ROWS rows."""
    order = rows.draw(min(len(rows), INFORMATION_ROWS), make_generator(seed))
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield rows.take(order[start : start + batch_size])


def columns_share(embedder: Embedder, X: RowSource, z: np.ndarray) -> float:
    """Return the share of the variance of scaled columns that a linear model of z (n, d) reads.

    The model is fitted to the same rows, n > d + 1, so the share is adjusted for its coefficients.
    """
    n, d = z.shape
    known = np.column_stack([np.ones(n), z])
    shift = embedder.scaled(X[:SLICE_ROWS]).mean(0)  # far from zero it would cancel in the squares
    products, squares = np.zeros((1 + d, len(shift))), 0.0
    for start in range(0, n, SLICE_ROWS):
        part = slice(start, start + SLICE_ROWS)
        columns = embedder.scaled(X[part]) - shift
        products += known[part].T @ columns
        squares += np.square(columns).sum()
    variance = squares - np.square(products[0]).sum() / n
    coefficients = np.linalg.lstsq(known.T @ known, products)[0]
    if variance <= 0:
        return 1.0  # columns that are constant are read back
    unread = (squares - (coefficients * products).sum()) / variance
    return float(np.clip(1 - unread * (n - 1) / (n - d - 1), 0, 1))
