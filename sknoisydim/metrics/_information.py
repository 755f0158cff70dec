"""What a fitted transformer makes of samples: information through its channel, and scorers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t as student
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sknoisydim._context import own_context
from sknoisydim._sources import MatrixLike, RowSource
from sknoisydim._validation import check_integer, check_name, check_real
from sknoisydim.metrics._distances import DISTANCES, classifier_auc, relative_distance
from sknoisydim.metrics._samples import FloatArray, RandomState, generator, seed_of, subsample

if TYPE_CHECKING:
    from sknoisydim.noise import Channel


def find_transformer(estimator: BaseEstimator, X: MatrixLike) -> tuple[BaseEstimator, Any]:
    """Return the one fitted NoisyDIMTransformer of an estimator, and X, checked, as it gets it."""
    transformer, before = find_step(estimator)
    for steps in before:
        X = steps.transform(X)
    return transformer, transformer._check(X, ensure_min_samples=2)


def find_step(estimator: BaseEstimator) -> tuple[BaseEstimator, list[BaseEstimator]]:
    """Return the one fitted NoisyDIMTransformer of an estimator, and the steps before it."""
    whole = getattr(estimator, "best_estimator_", estimator)
    steps = list(_leaves(whole, "", []))
    found = [s for s in steps if hasattr(s[1], "retarget") and hasattr(s[1], "transform")]
    kind = type(whole).__name__
    if not found:
        kinds = ", ".join(type(step).__name__ for name, step, _ in steps if name)
        raise TypeError(
            "estimator must be a NoisyDIMTransformer, or a Pipeline with one among its steps, or a "
            f"fitted search over these; got a {kind}{kinds and ' of ' + kinds}."
        )
    if len(found) > 1:
        names = ", ".join(repr(name) for name, *_ in found)
        raise ValueError(
            f"the {kind} has {len(found)} NoisyDIMTransformer steps ({names}): pass one of them, "
            "with X as it reaches it."
        )
    check_is_fitted(found[0][1])
    return found[0][1:]


def _leaves(step: Any, name: str, before: list[Any]) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield what is no Pipeline: its name for `set_params`, itself, and the steps before it."""
    if not isinstance(step, Pipeline):
        yield name, step, before
        return
    for i, (key, inner) in enumerate(step.steps):
        # The first steps alone: what comes behind the transformer need not be able to transform.
        ahead = [*before, step[:i]] if i else before
        yield from _leaves(inner, f"{name}__{key}".removeprefix("__"), ahead)


def normal_embedding(dim: BaseEstimator, X: RowSource, *, refined: bool = True) -> FloatArray:
    """Embed validated X without the target's map: float64 (n, d), close to N(0, I)."""
    from sknoisydim._model import embeddings  # here: metrics of plain arrays need no torch
    from sknoisydim._settings import resolve_device

    refinement = dim.refinement_ if refined else None
    return embeddings(dim.encoder_, X, resolve_device(dim.device), refinement)


#: Samples that one draw of the noise uses, unless a batch is larger; and random orders of y.
MAX_INFORMATION_SAMPLES, N_SHUFFLES = 2**13, 199
#: Nats in one unit.
UNITS = {"nats": 1.0, "bits": math.log(2.0)}
#: What a match is judged by, and by how many samples at most.
SCORED, MAX_SCORED_SAMPLES = {**DISTANCES, "classifier_auc": classifier_auc}, 4_000


@dataclass(frozen=True)
class InformationEstimate:
    """Mutual information of an embedding and its noisy version, with what bounds it.

    Attributes
    ----------
    value, low, high : float
        The estimate, a lower bound, and its confidence interval over draws of noise, in `units`.
    reachable : float
        The same estimate for N(0, I), with the same channel and batches. A larger `value` is
        chance, or due to samples that spread wider than N(0, I).
    capacity, cap : float
        Capacity of the channel, and the log of the batch size, which the estimate cannot exceed.
    units : str
        "nats" or "bits".
    batch_size, n_rows : int
        Samples in a batch, and those that were given.
    """

    value: float
    low: float
    high: float
    reachable: float
    capacity: float
    cap: float
    units: str
    batch_size: int
    n_rows: int

    def to(self, units: str) -> InformationEstimate:
        """Convert the estimate to another unit.

        Parameters
        ----------
        units : {"nats", "bits"}
            Unit of the result.

        Returns
        -------
        estimate : InformationEstimate

        Raises
        ------
        ValueError, TypeError
            If the unit is unknown.
        """
        factor = UNITS[self.units] / UNITS[check_name(units, UNITS, "units")]
        names = ("value", "low", "high", "reachable", "capacity", "cap")
        converted: dict[str, Any] = {name: getattr(self, name) * factor for name in names}
        return replace(self, units=units, **converted)

    def __str__(self) -> str:
        return (
            f"{self.value:.3f} {self.units} ({self.low:.3f} to {self.high:.3f}) of "
            f"{self.reachable:.3f} reachable; capacity {self.capacity:.3f}, "
            f"a batch of {self.batch_size} shows at most {self.cap:.3f}"
        )


@own_context()
def mutual_information(
    est: BaseEstimator,
    X: MatrixLike,
    *,
    units: str = "nats",
    n_draws: int = 20,
    confidence: float = 0.95,
    random_state: RandomState = 0,
) -> InformationEstimate:
    r"""Mutual information between the embedding of samples and its noisy version.

    .. math::
        \hat I = \log B + \frac1B \sum_i \Bigl[ T_{ii} - \tfrac12 \log \sum_j e^{T_{ij}}
        - \tfrac12 \log \sum_j e^{T_{ji}} \Bigr] \le \min(I(f(X); f(X) + Z), \log B)

    (InfoNCE in both directions, arXiv:1807.03748, section 2.3) averaged over batches of B samples,
    with f the encoder before any refinement, :math:`T_{ij} = \log p(y_i | f(x_j)) - \log p^*(y_i)`
    the density ratio of the channel and :math:`y_i = f(x_i) + z_i`. Nothing is learned here. It is
    the lower bound that the fit reports as `mutual_information_`.

    Parameters
    ----------
    est : NoisyDIMTransformer, Pipeline or fitted search
        Fitted. A Pipeline has one NoisyDIMTransformer, which gets X through the steps before it.
    X : array-like of shape (n_samples, n_features)
        At least two samples. Each draw uses at most 8,192 of them, or a batch.
    units : {"nats", "bits"}, default="nats"
        Unit of everything in the result.
    n_draws : int, default=20
        Number of draws of the noise and of batches, at least 2.
    confidence : float, default=0.95
        Level of Student's interval over these draws, for these samples.
    random_state : int, Generator, RandomState or None, default=0
        Seed of the draws.

    Returns
    -------
    estimate : InformationEstimate

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As scorers do: if there is no such fitted transformer, or more than one; if a parameter is
        not as above.
    """
    check_name(units, UNITS, "units")
    check_integer(n_draws, "n_draws", minimum=2)
    check_real(confidence, "confidence", minimum=0, maximum=1, closed="neither")
    dim, rows = find_transformer(est, X)
    z, rng = normal_embedding(dim, rows, refined=False), generator(random_state)
    batch_size = dim.batch_size_
    return channel_information(z, dim.channel_, batch_size, rng, n_draws, confidence).to(units)


def channel_information(
    z: FloatArray,
    channel: Channel,
    batch_size: int,
    rng: np.random.Generator,
    n_draws: int = 20,
    confidence: float = 0.95,
) -> InformationEstimate:
    """Return the information that embeddings z (n, d) send through a channel, in nats."""
    size = min(batch_size, len(z))
    n_used = max(size, min(len(z), MAX_INFORMATION_SAMPLES) // size * size)
    found = [_one_draw(rng.permutation(z)[:n_used], channel, size, rng) for _ in range(n_draws)]
    # What it estimates is neither negative nor more than that.
    cap = math.log(size)
    value, low, high = np.clip(interval(found, confidence), 0.0, cap).tolist()
    reachable, capacity = reachable_information(channel, size, rng), float(channel.capacity)
    return InformationEstimate(
        value, low, high, reachable, capacity, cap, units="nats", batch_size=size, n_rows=len(z)
    )


def interval(found: list[float], confidence: float) -> tuple[float, float, float]:
    """Return the mean of independent values, and the ends of Student's interval for it."""
    n, mean = len(found), float(np.mean(found))
    half = float(student.ppf(0.5 + confidence / 2, n - 1) * np.std(found, ddof=1) / n**0.5)
    return mean, mean - half, mean + half


def reachable_information(channel: Channel, batch_size: int, rng: np.random.Generator) -> float:
    """Return the estimate for the channel's best input, N(0, I) for Gaussian noise, in nats."""
    from .._modules import make_generator

    # As many samples as two draws have; a batch of few samples costs as long as one of many.
    n_batches = min(max(2, 2 * MAX_INFORMATION_SAMPLES // batch_size), 500)
    perfect = channel.sample_input(n_batches * batch_size, make_generator(seed_of(rng)))
    return _one_draw(perfect.double().numpy(), channel, batch_size, rng)


def _one_draw(z: FloatArray, channel: Channel, size: int, rng: np.random.Generator) -> float:
    import torch  # not above: metrics of plain arrays need none

    from .._objective import channel_nats

    return channel_nats(torch.from_numpy(z).split(size), channel, seed_of(rng))


def about_labels(
    dim: BaseEstimator, z: FloatArray, labels: np.ndarray, rng: np.random.Generator
) -> dict[str, float]:
    """Return the linear information about labels, in order and shuffled, and its p-value."""
    import torch

    from sknoisydim._linear import linear_information
    from sknoisydim._references import of_targets

    order, clean, scale = torch.arange(len(z)), torch.from_numpy(z), dim.channel_.scale
    features = of_targets(labels, order.device)(order, order).double()
    orders = [order, *(torch.from_numpy(rng.permutation(len(z))) for _ in range(N_SHUFFLES))]
    found, *others = (float(linear_information(clean, features[i], scale)) for i in orders)
    shuffled = np.array(others)
    return {
        "label_information": found,
        "shuffled_label_information": float(shuffled.mean()),
        "label_pvalue": (1 + int((shuffled >= found).sum())) / (1 + N_SHUFFLES),
    }


@own_context()
def match_scorer(
    estimator: BaseEstimator,
    X: MatrixLike,
    y: object = None,
    *,
    metric: str = "sliced_wasserstein",
    random_state: int = 0,
    **params: Any,
) -> float:
    """Minus the relative sliced Wasserstein distance of the embedding to its target.

    For ``scoring=`` of a search; from eight components on ``make_match_scorer("classifier_auc")``
    sees more of the joint distribution.

    Parameters
    ----------
    estimator : NoisyDIMTransformer, Pipeline or fitted search
        As of `mutual_information`.
    X : array-like of shape (n_samples, n_features)
        Held-out samples. Of more than 4,000, 4,000 are used.
    y : None, default=None
        Ignored.
    metric : str, default="sliced_wasserstein"
        A key of `sknoisydim.metrics.DISTANCES` (-1 is perfect), or "classifier_auc" (-0.5 is).
    random_state : int, default=0
        Seed of all draws, in every call.
    **params : keyword arguments
        Passed to `relative_distance` and the distance, or to `classifier_auc`.

    Returns
    -------
    score : float, higher is better

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As of `mutual_information`; if `metric` is unknown.
    """
    check_name(metric, SCORED, "metric")
    transformer, rows = find_transformer(estimator, X)
    # A stream of its own: a user's data may come from default_rng(0), too.
    rng = np.random.default_rng([random_state, len(DISTANCES)])
    Z = normal_embedding(transformer, subsample(rows, MAX_SCORED_SAMPLES, rng))
    if metric == "classifier_auc":
        return -classifier_auc(Z, "normal", random_state=rng, **params)
    return -relative_distance(metric, Z, "normal", random_state=rng, **params)


def make_match_scorer(
    metric: str = "sliced_wasserstein", *, random_state: int = 0, **params: Any
) -> Callable[..., float]:
    """Make a scorer for ``scoring=`` of a search: `match_scorer` with other parameters.

    Parameters
    ----------
    metric : str, default="sliced_wasserstein"
        As of `match_scorer`.
    random_state : int, default=0
        As of `match_scorer`.
    **params : keyword arguments
        As of `match_scorer`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None)``, which can be pickled.

    Raises
    ------
    ValueError, TypeError
        If `metric` is unknown.
    """
    check_name(metric, SCORED, "metric")
    return partial(match_scorer, metric=metric, random_state=random_state, **params)


@own_context()
def information_scorer(estimator: BaseEstimator, X: MatrixLike, y: object = None) -> float:
    r"""Share of the reachable information that the embedding sends through the channel.

    .. math:: \hat I(f(X); f(X) + Z) \, / \, \hat I(X^*; X^* + Z)

    for ``scoring=`` of a search, with :math:`X^*` draws of the best distribution for the channel
    (N(0, I) for Gaussian noise) and InfoNCE in batches of the same size. A ratio above 1 counts as
    its inverse. Compare values of `noise` from "auto" upwards only: with far less any distribution
    reaches the cap of a batch.

    Parameters
    ----------
    estimator : NoisyDIMTransformer, Pipeline or fitted search
        As of `mutual_information`.
    X : array-like of shape (n_samples, n_features)
        Held-out samples, two at least.
    y : None, default=None
        Ignored.

    Returns
    -------
    share : float from 0 to 1, which is perfect
    """
    from .._objective import information_share  # metrics of plain arrays need no torch

    transformer, rows = find_transformer(estimator, X)
    z = normal_embedding(transformer, rows, refined=False)
    return information_share(z, transformer.channel_, transformer.batch_size_)
