"""From an estimator to its NoisyDIMTransformer, and from samples to their normal embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._samples import FloatArray


def find_transformer(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the one fitted NoisyDIMTransformer of an estimator, and X as it reaches it.

    The estimator is a transformer, a Pipeline that has one at any place, also inside another
    Pipeline, or a fitted search over these. TypeError if there is none, ValueError for several.
    """
    step = getattr(estimator, "best_estimator_", estimator)
    names = _names(step)
    if not names:
        kinds = ", ".join(type(inner).__name__ for _, inner in _steps(step))
        raise TypeError(
            "estimator must be a NoisyDIMTransformer, or a Pipeline with one among its steps; got "
            f"a {type(step).__name__}{kinds and ' of ' + kinds}."
        )
    if len(names) > 1:
        raise ValueError(
            f"the {type(step).__name__} has {len(names)} NoisyDIMTransformer steps "
            f"({', '.join(map(repr, names))}): pass one of them, with X as it reaches it."
        )
    while steps := _steps(step):
        position = next(i for i, (_, inner) in enumerate(steps) if _names(inner))
        # The first steps alone: what comes behind the transformer need not be able to transform.
        X = step[:position].transform(X) if position else X
        step = steps[position][1]
    check_is_fitted(step)
    return step, X


def _names(estimator: Any) -> list[str]:
    """Return the names of the transformers inside, as `set_params` takes them."""
    if hasattr(estimator, "retarget") and hasattr(estimator, "transform"):
        return [""]
    return [
        f"{name}__{inner}".removesuffix("__")
        for name, step in _steps(estimator)
        for inner in _names(step)
    ]


def _steps(estimator: Any) -> list[tuple[str, Any]]:
    steps = getattr(estimator, "steps", None)
    return steps if isinstance(steps, list) else []


def check_rows(transformer: Any, X: Any) -> np.ndarray:
    """Validate X against a fitted transformer: at least two samples like those of its `fit`."""
    checked: np.ndarray = transformer._check(X, ensure_min_samples=2)
    return checked


def normal_embedding(transformer: Any, X: np.ndarray, *, refined: bool = True) -> FloatArray:
    """Embed validated X without the target's map: float64 (n, d), close to N(0, I).

    It is the pre-image of what `transform` returns, without its rounding to the dtype of X.
    """
    # Imported here: metrics of plain arrays need no torch.
    from .._inference import embeddings
    from .._settings import resolve_device

    device = resolve_device(transformer.device)
    refinement = transformer.refinement_ if refined else None
    parts = [z for _, z in embeddings(transformer.encoder_, X, device, refinement)]
    return np.concatenate(parts)
