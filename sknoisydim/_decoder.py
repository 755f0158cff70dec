"""The way back: a regression of the columns on the embedding, and samples made with it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import cross_val_predict

from sknoisydim._kernel_ridge import FloatArray, KernelRidge
from sknoisydim._model import Embedder, embeddings
from sknoisydim._sources import RowSource
from sknoisydim._validation import allowed, check_name, naming, set_seeds

# Training samples that a decoder is fitted to, and keeps the residuals of: at most so many, and
# fewer, down to the least, where they have more values than this.
MOST_SAMPLES, LEAST_SAMPLES, MOST_VALUES = 2**13, 2**10, 2**22
# Training samples near a draw, one of which lends it its residual.
NEIGHBORS = 3
# Samples that are decoded at once.
SLICE_SAMPLES = 4096


class Regressor:
    """A user's regressor, with the residuals that cross-validation gives."""

    def __init__(self, regressor: BaseEstimator) -> None:
        self.regressor = regressor

    def fit(self, z: FloatArray, targets: FloatArray, rng: np.random.Generator) -> Any:
        """Fit to samples (n, d) and centred targets (n, p); return their residuals (n, p)."""
        set_seeds(self.regressor, int(rng.integers(2**31)))
        y = targets[:, 0] if targets.shape[1] == 1 else targets
        with naming("decoder", self.regressor):
            predicted = cross_val_predict(self.regressor, z, y, cv=min(5, len(z)))
            self.regressor.fit(z, y)
        return targets - predicted.reshape(targets.shape)

    def predict(self, z: FloatArray) -> FloatArray:
        """Return predicted targets (n, p)."""
        return np.asarray(self.regressor.predict(z), dtype=np.float64).reshape(len(z), -1)


DECODERS: Mapping[str, type] = {"kernel_ridge": KernelRidge}


def resolve_decoder(
    decoder: object, shape: tuple[int, ...] | None
) -> KernelRidge | Regressor | None:
    """Return what decodes, not fitted; None for None. `shape` is None for samples of columns."""
    if decoder is None:
        return None
    also = ["None", "a scikit-learn regressor (an object)"]
    if isinstance(decoder, str):
        check_name(decoder, DECODERS, "decoder", also)
    elif inspect.isclass(decoder) or not all(
        callable(getattr(decoder, name, None)) for name in ("fit", "predict", "get_params")
    ):
        raise TypeError(
            f"decoder={decoder!r} of type {type(decoder).__name__} is not understood: it takes "
            f"{allowed(DECODERS, also)}."
        )
    if shape is not None:
        raise ValueError(
            f"decoder={decoder!r} is for samples of columns, and X has samples of shape {shape}: "
            "use decoder=None, or flatten them in front."
        )
    return DECODERS[decoder]() if isinstance(decoder, str) else Regressor(clone(decoder))


class Decoder:
    """From embeddings, before refinement and target, back to the columns."""

    near: np.ndarray
    residuals: np.ndarray

    def __init__(self, regression: KernelRidge | Regressor) -> None:
        self.regression = regression

    @classmethod
    def fitted(
        cls,
        regression: KernelRidge | Regressor,
        X: RowSource,
        embedder: Embedder,
        device: torch.device,
        seed: int,
        weights: np.ndarray | None = None,
    ) -> Decoder:
        """Return a decoder for samples like those of X, of which it keeps residuals."""
        rng, (n, p) = np.random.default_rng(seed), X.shape
        most = min(n, MOST_SAMPLES, max(LEAST_SAMPLES, MOST_VALUES // p))
        shares = None if weights is None else weights / weights.sum()
        chosen: Any = slice(None)
        if most < n or shares is not None:
            chosen = np.sort(rng.choice(n, most, replace=shares is not None, p=shares))
        rows = X[chosen]
        z = embeddings(embedder, rows, device)
        self = cls(regression)
        targets = self._describe(np.asarray(rows, dtype=np.float64))
        residuals = regression.fit(z, targets, rng)
        self.near, self.residuals = z.astype(np.float32), residuals.astype(np.float32)
        return self

    def _describe(self, X: FloatArray) -> FloatArray:
        """Keep what the columns are like, and return them standardised."""
        seen = ~np.isnan(X)
        filled, n_seen = np.where(seen, X, 0.0), np.maximum(seen.sum(0), 1)
        largest = np.abs(filled).max(0)  # the squares of large numbers overflow
        self.unit = np.where(largest > 0, largest, 1.0)
        scaled = filled / self.unit
        self.mean = scaled.sum(0) / n_seen
        scaled = np.where(seen, scaled - self.mean, 0.0)
        spread = np.sqrt(np.square(scaled).sum(0) / n_seen)
        self.spread = np.where(spread > 1e-12, spread, 1.0)
        self.low = np.where(seen, X, np.inf).min(0)
        self.high = np.where(seen, X, -np.inf).max(0)
        unseen = ~seen.any(0)
        self.low[unseen] = self.high[unseen] = 0.0
        self.whole = (filled == np.rint(filled)).all(0)
        # Values that a column has, where they come again and again, as categories do.
        values = [np.unique(column[~np.isnan(column)]) for column in X.T]
        again = [0 < len(v) <= m / 2 for v, m in zip(values, n_seen, strict=True)]
        self.values = [v if few else None for v, few in zip(values, again, strict=True)]
        return scaled / self.spread

    def decode(self, z: FloatArray, lent: Any = None) -> FloatArray:
        """Return the expected columns (n, p) of embeddings (n, d), or with residuals that are lent.

        They are inside the range of training. `lent` (n,) says whose residuals.
        """
        X = np.empty((len(z), len(self.mean)))
        for start in range(0, len(z), SLICE_SAMPLES):
            part = slice(start, start + SLICE_SAMPLES)
            standard = self.regression.predict(z[part])
            if lent is not None:
                standard = standard + self.residuals[lent[part]]
            columns = (standard * self.spread + self.mean) * self.unit
            X[part] = np.clip(columns, self.low, self.high)
        return X

    def draw(self, z: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return a draw of the columns (n, p) for each embedding (n, d)."""
        k = min(NEIGHBORS, len(self.near))
        near: Any = cKDTree(self.near).query(z, k=[*range(1, k + 1)])[1]
        X = self.decode(z, near[np.arange(len(z)), rng.integers(k, size=len(z))])
        for j, values in enumerate(self.values):
            if values is not None:
                X[:, j] = values[np.searchsorted((values[1:] + values[:-1]) / 2, X[:, j])]
            elif self.whole[j]:
                X[:, j] = np.rint(X[:, j])
        return X
