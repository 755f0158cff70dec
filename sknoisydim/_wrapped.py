"""What the estimators around a NoisyDIMTransformer have in common."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sknoisydim._input import check_kinds, in_our_words
from sknoisydim._sources import MatrixLike
from sknoisydim._transformer import NoisyDIMTransformer

FloatArray = NDArray[np.float64]

# Scaled values beyond this are as far out as it takes, and their squares stay finite.
LIMIT = 1e6


class WrapsTransformer(BaseEstimator):
    """An estimator with a parameter `transformer`: one to fit, a frozen one, or None."""

    transformer: Any

    def _base(self) -> BaseEstimator:
        if self.transformer is None:
            return NoisyDIMTransformer(keep="pca", keep_weight=10.0, refine="rotation")
        return self.transformer

    def _is_frozen(self) -> bool:
        return isinstance(self.transformer, FrozenEstimator)

    def _embedder(self, X: FloatArray, seed: int) -> NoisyDIMTransformer:
        return fitted_transformer(self._base(), X, random_state=seed)

    def _samples(self, X: MatrixLike, *, reset: bool = False, **options: Any) -> FloatArray:
        if reset:
            options["ensure_min_samples"] = 4
        if get_tags(self).input_tags.allow_nan:
            options["ensure_all_finite"] = "allow-nan"
        with in_our_words():
            check_kinds(X, "X")
            checked: FloatArray = validate_data(self, X, reset=reset, dtype=np.float64, **options)
        return checked

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        base = self._base()
        if hasattr(base, "__sklearn_tags__"):  # else `fit` says what `transformer` may be
            tags.input_tags.allow_nan = get_tags(base).input_tags.allow_nan
        return tags


def fitted_transformer(
    base: Any, X: MatrixLike, y: ArrayLike | None = None, **parameters: Any
) -> NoisyDIMTransformer:
    """Return a copy with these parameters, fitted; or the one that is fitted and frozen already."""
    frozen = isinstance(base, FrozenEstimator)
    transformer = base.estimator if frozen else base
    if not isinstance(transformer, NoisyDIMTransformer):
        raise TypeError(
            "transformer must be a NoisyDIMTransformer, one in a FrozenEstimator, or None, got "
            f"{transformer!r} of type {type(transformer).__name__}."
        )
    if frozen:
        check_is_fitted(transformer)
        return transformer
    return clone(transformer).set_params(**parameters).fit(X, y)


def without_names(transformer: Any) -> Any:
    """Return a transformer that takes arrays without a warning: names were checked before."""
    if hasattr(transformer, "feature_names_in_"):
        transformer = copy.copy(transformer)
        del transformer.feature_names_in_
    return transformer


def scaled(transformer: Any, X: FloatArray) -> FloatArray:
    """Return features (n, p) as the encoder is given them; NaN where they are missing."""
    with torch.inference_mode():
        values = transformer.encoder_.scaling(torch.from_numpy(np.array(X)))
        return np.clip(values.double().flatten(1).numpy(), -LIMIT, LIMIT)
