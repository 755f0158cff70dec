"""Scorers for a grid search: how well the law matches, and how much information passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .._context import own_context
from .._options import unknown_option
from ._classifier import classifier_auc
from ._estimators import check_rows, find_transformer, normal_embedding
from ._floors import in_floors
from ._information import channel_information
from ._reference import generator, subsample
from ._tables import DISTANCES

#: Rows that a match is judged by, at most.
MAX_SCORED_ROWS = 4_000


def match_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    r"""Minus the sliced Wasserstein distance of the embedding to its target, in floors.

    A scorer for `scoring=` of `GridSearchCV`, `cross_validate` and the like: higher is better, and
    about -1 is perfect, whatever the number of components and rows. From eight components on it
    hardly sees the joint law: use ``make_match_scorer("classifier_auc")`` there.

    Parameters
    ----------
    estimator : NoisyDIMTransformer or Pipeline
        Fitted. In a Pipeline the one NoisyDIMTransformer is found at any place, such as before a
        classifier.
    X : array-like of shape (n, p)
        Held-out rows, as the estimator takes them. Of more than 4,000 rows, 4,000 are judged.
    y : None, default=None
        Ignored.

    Returns
    -------
    score : float

    Raises
    ------
    TypeError
        If there is no NoisyDIMTransformer in the estimator.
    ValueError
        If there are several.

    See Also
    --------
    make_match_scorer : The same for another distance, or for the AUC.
    information_scorer : The share of the information that can be reached.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_validate
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.metrics import information_scorer, match_scorer
    >>> X = load_iris().data
    >>> found = cross_validate(
    ...     NoisyDIMTransformer(2, max_epochs=5, random_state=0),
    ...     X,
    ...     cv=2,
    ...     scoring={"match": match_scorer, "information": information_scorer},
    ... )
    >>> bool((found["test_match"] < 0).all() and (found["test_information"] > 0).all())
    True
    """
    return _match(estimator, X, y)


@own_context()
def information_scorer(estimator: Any, X: Any, y: Any = None) -> float:
    r"""Share of the reachable information that the embedding sends through the channel.

    .. math:: \hat I(f(X); f(X) + Z) \, / \, \hat I(N; N + Z), \qquad N \sim N(0, I)

    both by `mutual_information` with the same channel and batches. A scorer for `scoring=`: higher
    is better; about 1 is perfect, about 0 tells nothing.

    Parameters
    ----------
    estimator : NoisyDIMTransformer or Pipeline
        Fitted; as in `match_scorer`.
    X : array-like of shape (n, p)
        Held-out rows, at least two.
    y : None, default=None
        Ignored.

    Returns
    -------
    score : float
        At least 0. Above 1 by chance, or for rows that spread wider than N(0, I).

    Raises
    ------
    TypeError
        If there is no NoisyDIMTransformer in the estimator.
    ValueError
        If there are several.

    See Also
    --------
    mutual_information : The same in nats or bits, with an interval.

    Notes
    -----
    It compares values of `noise` only from "auto" upwards: with far less noise a batch shows its
    cap for any law.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.metrics import information_scorer
    >>> X = load_iris().data
    >>> dim = NoisyDIMTransformer(2, max_epochs=5, random_state=0).fit(X)
    >>> 0.5 < information_scorer(dim, X) < 1.1
    True
    """
    transformer, X = find_transformer(estimator, X)
    z = normal_embedding(transformer, check_rows(transformer, X), refined=False)
    # Two draws of few rows are too few for a stable share; a large table needs no more.
    n_draws = max(2, -(-2 * 8192 // len(z)))
    estimate = channel_information(
        z, transformer.channel_, transformer.batch_size_, min(n_draws, 200), 0.95, generator(0)
    )
    return max(0.0, estimate.value / estimate.reachable)


def make_match_scorer(
    metric: str = "sliced_wasserstein", *, random_state: int = 0, **params: Any
) -> Callable[..., float]:
    """Make a scorer like `match_scorer` with another metric.

    Parameters
    ----------
    metric : str, default="sliced_wasserstein"
        A key of `sknoisydim.metrics.DISTANCES`, and the score is minus that distance in floors
        (-1 is perfect); or "classifier_auc", and the score is minus the AUC of a classifier that
        tells the embedding from the target (-0.5 is perfect).
    random_state : int, default=0
        Draws of the target, the same in every call: so candidates of a grid are compared alike.
    **params : keyword arguments
        Handed to `in_floors` and the distance, or to `classifier_auc`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None) -> float``; it can be pickled.

    Raises
    ------
    ValueError
        If the metric is unknown.

    Notes
    -----
    From eight components on the sliced Wasserstein distance hardly sees the joint law: use
    "classifier_auc" there, which takes seconds instead of a tenth of one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sknoisydim import NoisyDIMTransformer
    >>> from sknoisydim.metrics import make_match_scorer
    >>> X = load_iris().data
    >>> dim = NoisyDIMTransformer(2, max_epochs=5, random_state=0).fit(X)
    >>> -1 <= make_match_scorer("classifier_auc", classifier="boosting")(dim, X) <= -0.3
    True
    """
    if metric != "classifier_auc" and metric not in DISTANCES:
        known = {**DISTANCES, "classifier_auc": classifier_auc}
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
    # Streams of their own: a user's data may come from default_rng(0), too.
    rng = np.random.default_rng([random_state, len(DISTANCES)])
    rows = subsample(check_rows(transformer, X), MAX_SCORED_ROWS, rng)
    Z = normal_embedding(transformer, rows)
    if metric == "classifier_auc":
        return -classifier_auc(Z, "normal", random_state=rng, **params)
    return -in_floors(metric, Z, "normal", random_state=rng, **params)
