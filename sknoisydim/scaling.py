"""Input scaling: fitted once on the training rows, then a torch module in front of the encoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from torch import nn

from sknoisydim._options import allowed, unknown_option

# Standard deviations at which "squash" bounds a column.
SQUASH_BOUND = 3.0
# Cells of a slice in which statistics are gathered: 16 MB of float64.
_SLICE_CELLS = 2**21


def slices(n_rows: int, n_cells_per_row: int) -> Iterator[slice]:
    """Yield consecutive slices of rows with a bounded number of cells each."""
    step = max(1, _SLICE_CELLS // max(1, n_cells_per_row))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


class Standardize(nn.Module):
    r"""Standardised columns, in the dtype of x, clipped or squashed.

    With :math:`u = (x - \mu) / \sigma`, returns u clipped to +-1e6, or, with a `bound` b,
    :math:`u / \sqrt{1 + (u / b)^2}`, which is close to u in the middle and, up to rounding, keeps
    the order of values and stays inside +-b. The subtraction is done in float64 because a column
    at 1e6 +- 1 has nothing left of its variation in float32; bounded output keeps any finite row
    finite in the layers that follow.

    Parameters
    ----------
    mean, scale : ndarray of shape (p,)
        :math:`\mu` and :math:`\sigma` of each column.
    bound : float or None, default=None
        b; None clips.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, mean: np.ndarray, scale: np.ndarray, bound: float | None = None) -> None:
        super().__init__()
        self.bound = bound
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x.to(torch.float64) - self.mean
        if self.bound is None:
            return centred.div_(self.scale).clamp_(-1e6, 1e6).to(x.dtype)
        # The square of a far row overflows, and infinity * 0 is NaN. In place, without hypot, and
        # in the dtype of x: in transform this is the largest piece beside the network.
        v = centred.div_(self.scale * self.bound).to(x.dtype).clamp_(-1e15, 1e15)
        return v.mul_(v.square().add_(1).rsqrt_()).mul_(self.bound)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> nn.Module:
        # .float() of a model around must not round the statistics; .to(device) still moves them.
        mean, scale = self.mean, self.scale
        super()._apply(fn, recurse)
        self.mean = mean.to(self.mean.device)
        self.scale = scale.to(self.scale.device)
        return self


class Clip(nn.Module):
    """The rows themselves, clipped to what a float32 network can carry.

    Parameters
    ----------
    limit : float, default=1e18
        Largest absolute value.
    """

    def __init__(self, limit: float = 1e18) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(-self.limit, self.limit)


class SklearnScaling(nn.Module):
    """Any fitted scikit-learn transformer, called on numpy arrays batch by batch.

    Parameters
    ----------
    transformer : transformer
        Fitted.
    limit : float, default=1e6
        Largest absolute value that is passed on.
    """

    def __init__(self, transformer: Any, limit: float = 1e6) -> None:
        super().__init__()
        self.transformer = transformer
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = self.transformer.transform(x.detach().cpu().numpy())
        # Encoders of categories give sparse rows, and set_config may ask for data frames.
        scaled = scaled.toarray() if hasattr(scaled, "toarray") else np.ascontiguousarray(scaled)
        if scaled.ndim < 2 or len(scaled) != len(x) or not scaled[:1].size:
            raise ValueError(
                f"scaling={self.transformer!r} maps rows of shape {tuple(x.shape)} to "
                f"{scaled.shape}; it has to return as many rows, with at least one column."
            )
        if scaled.dtype.kind not in "biuf":
            raise ValueError(
                f"scaling={self.transformer!r} returned {scaled.dtype} values, not real numbers."
            )
        if not np.isfinite(scaled).all():
            raise ValueError(f"scaling={self.transformer!r} returned NaN or infinite values.")
        scaled = np.clip(scaled, -self.limit, self.limit)
        return torch.as_tensor(scaled, dtype=x.dtype, device=x.device)


class Moments(NamedTuple):
    """Mean and variance of each column, of so many rows."""

    n_rows: float
    mean: np.ndarray
    variance: np.ndarray

    def merge(self, other: Moments) -> Moments:
        """Return the moments of the rows of both.

        Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for Computing the Sample
        Variance", The American Statistician 37 (1983), equation 2.1.
        """
        n_rows = self.n_rows + other.n_rows
        share = other.n_rows / n_rows
        change = other.mean - self.mean
        variance = (1 - share) * self.variance + share * other.variance
        with np.errstate(over="ignore"):
            variance = variance + share * (1 - share) * change**2
        return Moments(n_rows, self.mean + share * change, variance)


def column_moments(X: np.ndarray, weights: np.ndarray | None = None) -> Moments:
    """Return the moments of the columns of X (n, p), read slice by slice.

    Raises
    ------
    ValueError
        If a variance is too large for float64.
    """
    scaler = StandardScaler()
    with np.errstate(over="ignore", invalid="ignore"):
        for part in slices(len(X), X.shape[1]):
            # Sums of rows in another memory layout have other last bits.
            rows = np.ascontiguousarray(X[part], dtype=np.float64)
            scaler.partial_fit(rows, sample_weight=None if weights is None else weights[part])
    bad = ~np.isfinite(scaler.mean_) | ~np.isfinite(scaler.var_)
    if bad.any():
        column = int(np.flatnonzero(bad)[0])
        largest = np.abs(X[:, column]).max()
        raise ValueError(
            f"column {column} overflows: it holds values up to {largest:.3g}, and its variance is "
            "too large for float64. Divide the column, take its logarithm, or use "
            "scaling='quantile'."
        )
    return Moments(float(scaler.n_samples_seen_), scaler.mean_, scaler.var_)


def from_moments(scaling: str, moments: Moments) -> nn.Module:
    """Return "standard" or "squash" for columns with these moments; constant ones are centred.

    Raises
    ------
    ValueError
        If a variance is not finite.
    """
    n_rows, mean, variance = moments
    if not np.isfinite(variance).all():
        column = int(np.flatnonzero(~np.isfinite(variance))[0])
        raise ValueError(
            f"column {column} overflows: its variance over the rows so far is too large for "
            "float64. Divide the column, or take its logarithm."
        )
    # What rounding leaves of the variance of equal values, as scikit-learn's StandardScaler has it.
    eps = np.finfo(np.float64).eps
    with np.errstate(over="ignore"):
        constant = variance <= n_rows * eps * variance + (n_rows * mean * eps) ** 2
    scale = np.where(constant, 1.0, np.sqrt(variance))
    return Standardize(mean, scale, bound=SQUASH_BOUND if scaling == "squash" else None)


def _by_moments(scaling: str) -> Callable[[np.ndarray, int, np.ndarray | None], nn.Module]:
    return lambda X, seed, weights: from_moments(scaling, column_moments(X, weights))


def _quantile(X: np.ndarray, seed: int, weights: np.ndarray | None) -> nn.Module:
    transformer = QuantileTransformer(
        n_quantiles=min(1000, len(X)), output_distribution="normal", random_state=seed
    )
    return SklearnScaling(transformer.fit(_resampled(X, weights, seed)))


def _resampled(X: np.ndarray, weights: np.ndarray | None, seed: int) -> np.ndarray:
    """Return as many rows, drawn in proportion to their weights, for what takes no weights."""
    if weights is None:
        return X
    chosen = np.random.default_rng(seed).choice(len(X), len(X), p=weights / weights.sum())
    return X[np.sort(chosen)]


SCALINGS: Mapping[str, Callable[[np.ndarray, int, np.ndarray | None], nn.Module]] = {
    "squash": _by_moments("squash"),
    "standard": _by_moments("standard"),
    "quantile": _quantile,
}
# Those that need the moments of the columns only, which a stream can keep up to date.
BY_MOMENTS = ("squash", "standard")


def resolve_scaling(scaling: Any) -> Any:
    """Return None, the name of a scaling, or a transformer that is not fitted.

    A class is called without arguments, and a transformer is cloned.

    Raises
    ------
    ValueError
        If a name is unknown.
    TypeError
        If it is something else without `fit` and `transform`.
    """
    if scaling is None:
        return None
    if isinstance(scaling, str):
        if scaling not in SCALINGS:
            raise ValueError(unknown_option(scaling, SCALINGS, "scaling"))
        return scaling
    if not (callable(getattr(scaling, "fit", None)) and hasattr(scaling, "transform")):
        raise TypeError(
            f"scaling={scaling!r} of type {type(scaling).__name__} is not understood: it takes "
            f"{allowed(SCALINGS)}, None, or a scikit-learn transformer."
        )
    if not inspect.isclass(scaling):
        return clone(scaling)
    try:
        return scaling()
    except TypeError as error:
        raise TypeError(
            f"scaling is the class {scaling.__name__}, which needs parameters: pass an object, as "
            f"in {scaling.__name__}(...)."
        ) from error


def fit_scaling(
    scaling: Any, X: np.ndarray, seed: int, weights: np.ndarray | None = None
) -> nn.Module:
    """Return the module that scales rows like those of X.

    Parameters
    ----------
    scaling : {"squash", "standard", "quantile"}, scikit-learn transformer or None
        A transformer is cloned and fitted, a class called without arguments first.
    X : ndarray of shape (n, p)
        Finite training rows; read slice by slice for "standard".
    seed : int
        For each `random_state` of a transformer, or inside it, that was left at None.
    weights : ndarray of shape (n,), default=None
        Positive weights of the rows. "squash" and "standard" use them; all else is fitted to rows
        that are drawn in proportion to them.

    Raises
    ------
    ValueError
        If a name is unknown, a column does not fit into float64 (scaled) or float32 (None), or a
        transformer makes something else of rows than rows of numbers.
    TypeError
        If `scaling` is something else without `fit` and `transform`.
    """
    scaling = resolve_scaling(scaling)
    if scaling is None:
        for part in slices(len(X), X[0].size):
            largest = np.abs(X[part]).max()
            if largest > np.finfo(np.float32).max:
                raise ValueError(
                    f"X holds {largest:.3g}, too large for float32, and scaling=None leaves it so. "
                    "Use scaling='standard' or 'quantile'."
                )
        return Clip()
    if isinstance(scaling, str):
        return SCALINGS[scaling](X, seed, weights)
    transformer = scaling
    unseeded = [
        name
        for name, value in transformer.get_params().items()
        if value is None and name.rpartition("__")[2] == "random_state"
    ]
    transformer.set_params(**dict.fromkeys(unseeded, seed))
    try:
        return SklearnScaling(transformer.fit(_resampled(X, weights, seed)))
    except Exception as error:  # a user's code may raise anything; it goes on
        error.add_note(f"It came from the fit of scaling={transformer!r}.")
        raise
