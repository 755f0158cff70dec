"""From an estimator to its NoisyDIMTransformer, and from rows to their normal embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._reference import FloatArray


def find_transformer(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the one fitted NoisyDIMTransformer of an estimator, and X as it reaches it.

    Parameters
    ----------
    estimator : NoisyDIMTransformer, Pipeline or fitted search
        A Pipeline may hold it at any place, also inside another Pipeline; of a search its best
        estimator is taken.
    X : array-like
        Rows as the estimator takes them.

    Raises
    ------
    TypeError
        If there is none.
    ValueError
        If there are several.
    NotFittedError
        If it is not fitted.
    """
    best = getattr(estimator, "best_estimator_", estimator)
    routes = _routes(best)
    kind = type(best).__name__
    if not routes:
        raise TypeError(
            "a NoisyDIMTransformer, or a Pipeline with one among its steps, is what can be judged; "
            f"got {_described(best, kind)}."
        )
    if len(routes) > 1:
        names = ", ".join(repr("__".join(name for _, name in route)) for route in routes)
        raise ValueError(
            f"the {kind} has {len(routes)} NoisyDIMTransformer steps ({names}), and which of them "
            "is meant is not known: pass the transformer itself with the rows that it takes."
        )
    step = best
    for position, _ in routes[0]:
        # The first steps alone: what comes behind the transformer need not be able to transform.
        X = step[:position].transform(X) if position else X
        step = step.steps[position][1]
    check_is_fitted(step)
    return step, X


def _routes(estimator: Any) -> list[list[tuple[int, str]]]:
    """Return, for each transformer inside, the positions and names of the steps down to it."""
    if hasattr(estimator, "retarget") and hasattr(estimator, "transform"):
        return [[]]
    return [
        [(position, name), *route]
        for position, (name, step) in enumerate(_steps(estimator))
        for route in _routes(step)
    ]


def _steps(estimator: Any) -> list[tuple[str, Any]]:
    steps = getattr(estimator, "steps", None)
    return steps if isinstance(steps, list) else []


def _described(estimator: Any, kind: str) -> str:
    steps = _steps(estimator)
    if not steps:
        return f"a {kind}"
    return f"a {kind} of " + ", ".join(type(step).__name__ for _, step in steps)


def check_rows(transformer: Any, X: Any, n_rows: int = 2) -> np.ndarray:
    """Return rows as a fitted transformer takes them, at least `n_rows` of them.

    Raises
    ------
    ValueError
        If they are not rows like those of its `fit`, or too few.
    """
    rows: np.ndarray = transformer._check(X, ensure_min_samples=n_rows)
    return rows


def normal_embedding(transformer: Any, X: np.ndarray, *, refined: bool = True) -> FloatArray:
    """Embed checked rows without the target's map: float64 (n, d), close to N(0, I).

    What `transform` gives is the target's map of it, rounded to the dtype of X; so this is the
    pre-image of what `transform` gives, without the rounding.
    """
    # Imported here: metrics of plain arrays need no torch.
    from .._inference import embeddings
    from .._settings import resolve_device

    device = resolve_device(transformer.device)
    refinement = transformer.refinement_ if refined else None
    parts = [z for _, z in embeddings(transformer.encoder_, X, device, refinement)]
    return np.concatenate(parts)
