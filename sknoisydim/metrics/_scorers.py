"""Scorers for `scoring=` of a grid search: match with the target, and information."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._context import own_context
from .._options import unknown_option
from ._classifier import classifier_auc
from ._embedding import check_rows, find_transformer, normal_embedding
from ._information import channel_information
from ._relative import DISTANCES, relative_distance
from ._samples import generator, subsample

#: Samples that a match is judged by, at most.
MAX_SCORED_SAMPLES = 4_000


def match_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    """Minus the relative sliced Wasserstein distance of the embedding to its target.

    Higher is better, and about -1 is perfect. From eight components on it hardly sees the joint
    distribution: use ``make_match_scorer("classifier_auc")`` there.

    Parameters
    ----------
    estimator : NoisyDIMTransformer, Pipeline or fitted search
        Fitted; a Pipeline has one NoisyDIMTransformer, at any place.
    X : array-like of shape (n_samples, n_features)
        Held-out samples. Of more than 4,000, 4,000 are used.
    y : None, default=None
        Ignored.

    Returns
    -------
    score : float

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_validate
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.metrics import information_scorer, match_scorer
    >>> scores = cross_validate(
    ...     NoisyDIMTransformer(2, max_epochs=5, random_state=0),
    ...     load_iris().data,
    ...     cv=2,
    ...     scoring={"match": match_scorer, "information": information_scorer},
    ... )
    >>> bool((scores["test_match"] < 0).all() and (scores["test_information"] > 0).all())
    True
    """
    return _match(estimator, X, y)


def make_match_scorer(
    metric: str = "sliced_wasserstein", *, random_state: int = 0, **params: Any
) -> Callable[..., float]:
    """Make a scorer like `match_scorer` from another metric.

    Parameters
    ----------
    metric : str, default="sliced_wasserstein"
        A key of `sknoisydim.metrics.DISTANCES`: the score is minus the relative distance (-1 is
        perfect). Or "classifier_auc": the score is minus that (-0.5 is perfect).
    random_state : int, default=0
        Seed of all draws, the same in every call, so candidates of a grid are compared alike.
    **params : keyword arguments
        Passed to `relative_distance` and the distance, or to `classifier_auc`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None) -> float``; it can be pickled.
    """
    known = {**DISTANCES, "classifier_auc": classifier_auc}
    if metric not in known:
        raise ValueError(unknown_option(str(metric), known, "metric"))
    return partial(_match, metric=metric, random_state=random_state, **params)


@own_context()
def _match(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    metric: str = "sliced_wasserstein",
    random_state: int = 0,
    **params: Any,
) -> float:
    transformer, X = find_transformer(estimator, X)
    # A stream of its own: a user's data may come from default_rng(0), too.
    rng = np.random.default_rng([random_state, len(DISTANCES)])
    X = subsample(check_rows(transformer, X), MAX_SCORED_SAMPLES, rng)
    Z = normal_embedding(transformer, X)
    if metric == "classifier_auc":
        return -classifier_auc(Z, "normal", random_state=rng, **params)
    return -relative_distance(metric, Z, "normal", random_state=rng, **params)


@own_context()
def information_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    r"""Share of the reachable information that the embedding sends through the channel.

    .. math:: \hat I(f(X); f(X) + Z) \, / \, \hat I(N; N + Z), \qquad N \sim N(0, I)

    both by `mutual_information` with the same channel and batches. Higher is better; 1 is perfect,
    0 tells nothing; parameters are those of `match_scorer`. It compares values of `noise` only from
    "auto" upwards: with far less noise any distribution reaches the cap of a batch.
    """
    transformer, X = find_transformer(estimator, X)
    z = normal_embedding(transformer, check_rows(transformer, X), refined=False)
    # Two draws of few samples are too few for a stable share; many samples need no more.
    n_draws = min(max(2, -(-2 * 8192 // len(z))), 200)
    channel, batch_size = transformer.channel_, transformer.batch_size_
    estimate = channel_information(z, channel, batch_size, generator(0), n_draws=n_draws)
    return max(0.0, estimate.value / estimate.reachable)
