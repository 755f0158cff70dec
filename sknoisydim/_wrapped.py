"""What the estimators around a NoisyDIMTransformer have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Self, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sknoisydim._context import own_context
from sknoisydim._input import check_kinds, in_our_words
from sknoisydim._modules import RandomState, draw_seed
from sknoisydim._sources import MatrixLike
from sknoisydim._transformer import NoisyDIMTransformer
from sknoisydim._validation import check_real

FloatArray = NDArray[np.float64]
Split: TypeAlias = tuple[FloatArray, NDArray[np.int64], int, np.random.Generator]

# Scaled values beyond this are as far out as it takes, and their squares stay finite.
LIMIT = 1e6


class HoldsTransformer(BaseEstimator):
    """An estimator with a parameter `transformer`: one to fit, a frozen one, or None."""

    transformer: BaseEstimator | None

    def set_params(self, **params: object) -> Self:
        inner = [name for name in params if name.startswith("transformer__")]
        if inner and params.get("transformer", self.transformer) is None:
            raise ValueError(
                f"{inner[0]} is a parameter of the transformer, and transformer is None: set "
                "transformer=NoisyDIMTransformer(...) first."
            )
        return super().set_params(**params)


class WrapsTransformer(HoldsTransformer):
    """One that holds samples out of its transformer's training."""

    alpha: float
    calibration_fraction: float
    random_state: RandomState
    _fit: Callable[[MatrixLike], None]  # each one's own

    @own_context()
    def fit(self, X: MatrixLike, y: object = None) -> Self:
        """Train on some of the samples, and hold others out for p-values. A monitor keeps none.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            At least four samples of what is usual.
        y : None, default=None
            Ignored.

        Returns
        -------
        self : object
        """
        self._fit(X)
        return self

    def _base(self) -> BaseEstimator:
        return NoisyDIMTransformer(keep="pca") if self.transformer is None else self.transformer

    def _is_frozen(self) -> bool:
        return isinstance(self.transformer, FrozenEstimator)

    def _embedder(self, X: FloatArray, seed: int) -> NoisyDIMTransformer:
        return fitted_transformer(self._base(), X, random_state=seed)

    def _samples(self, X: MatrixLike, *, reset: bool = False, **options: object) -> FloatArray:
        if reset:
            options["ensure_min_samples"] = 4
        if get_tags(self).input_tags.allow_nan:
            options["ensure_all_finite"] = "allow-nan"
        with in_our_words(X):
            check_kinds(X, "X")
            return validate_data(self, X, reset=reset, dtype=np.float64, **options)

    def _to_split(self, X: MatrixLike, least: int) -> Split:
        """Return samples, a random order of them, how many to hold out, and a generator."""
        transformer = checked_transformer(self._base())
        check_real(self.alpha, "alpha", minimum=0, maximum=1, closed="neither")
        fraction = self.calibration_fraction
        check_real(fraction, "calibration_fraction", minimum=0, maximum=1, closed="neither")
        rows = self._samples(X, reset=True)
        if self._is_frozen():  # it has to know these columns, by their names and in their order
            validate_data(transformer, X, reset=False, skip_check_array=True)
        elif transformer.supervision:
            raise ValueError(
                f"{type(self).__name__} uses no y, and its transformer has supervision="
                f"{transformer.supervision!r}: set supervision=0, or pass a transformer that is "
                "fitted already in a FrozenEstimator."
            )
        n_rows, rng = len(rows), np.random.default_rng(draw_seed(self.random_state))
        n_held_out = int(np.clip(round(fraction * n_rows), least, n_rows - 2))
        return rows, rng.permutation(n_rows), n_held_out, rng

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        base = self._base()
        if isinstance(base, BaseEstimator):  # else `fit` says what `transformer` may be
            tags.input_tags.allow_nan = get_tags(base).input_tags.allow_nan
        return tags


def fitted_transformer(
    base: BaseEstimator, X: MatrixLike, y: ArrayLike | None = None, **parameters: object
) -> NoisyDIMTransformer:
    """Return a copy with these parameters, fitted; or the one that is fitted and frozen already."""
    transformer = checked_transformer(base)
    if isinstance(base, FrozenEstimator):
        return transformer
    return clone(transformer).set_params(**parameters).fit(X, y)


def checked_transformer(base: BaseEstimator) -> NoisyDIMTransformer:
    """Return a transformer, or the one in a FrozenEstimator, which has to be fitted."""
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


def without_names(transformer: NoisyDIMTransformer) -> NoisyDIMTransformer:
    """Return a transformer that takes arrays without a warning: names were checked before."""
    if hasattr(transformer, "feature_names_in_"):
        transformer = copy.copy(transformer)
        del transformer.feature_names_in_
    return transformer


class ScaledFeatures:
    """Features (n, p) of samples as the encoder is given them, means where they are missing."""

    def __init__(self, transformer: NoisyDIMTransformer, X: FloatArray) -> None:
        self.scaling = transformer.encoder_.scaling
        self.fill = np.ma.masked_invalid(self._scaled(X)).mean(0).filled(0.0)

    def __call__(self, X: FloatArray) -> FloatArray:
        features = self._scaled(X)
        return np.where(np.isnan(features), self.fill, features)

    def _scaled(self, X: FloatArray) -> FloatArray:
        with torch.inference_mode():
            values = self.scaling(torch.from_numpy(np.array(X)))
            return np.clip(values.double().flatten(1).numpy(), -LIMIT, LIMIT)
