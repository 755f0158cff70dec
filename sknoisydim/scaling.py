"""Input scaling: fitted once on the training rows, then a torch module in front of the encoder."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from scipy.special import expit, logit, ndtri
from sklearn.base import BaseEstimator
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from torch import nn

from sknoisydim._modules import Float64, Table
from sknoisydim._sources import RowSource, is_sparse, slices
from sknoisydim._validation import check_name, resolve, set_seeds

__all__ = ["SCALINGS", "Clip", "NormalScores", "SklearnScaling", "Standardize", "fit_scaling"]
__all__ += ["resolve_scaling"]

# Standard deviations at which "squash" bounds a column, and the interquartile range of N(0, 1).
SQUASH_BOUND, NORMAL_RANGE = 3.0, 1.349
# How many times the deviation of a column is that of its middle half, where the latter takes its
# place: so few columns of the tables of benchmarks/frontier.py have (2 of 19 in segment, 9 of 784
# in MNIST), and five neighbours of lognormal ones tell more (TestHeavyTails).
HEAVY = 10.0
# Rows, and cells of them, that quartiles are taken from.
QUARTILE_ROWS, QUARTILE_CELLS = 2**12, 2**20
# Least probability, and distance from an outermost quantile, that "quantile" knows, as those of
# scikit-learn's QuantileTransformer; and the log of the odds of that, as float32 has it.
LEAST = 1e-7
ODDS = float(np.float32(-logit(LEAST)))


class Scaling(nn.Module):
    """Base of scalings that map each column by itself, increasingly."""

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        """Return the rows that are scaled to given ones.

        Parameters
        ----------
        y : Tensor of shape (n, p)
            Scaled rows.

        Returns
        -------
        x : Tensor of shape (n, p)
            Of the dtype of y; where rows are clipped, an end of their range.
        """
        raise NotImplementedError

    def log_abs_det(self, x: torch.Tensor) -> torch.Tensor:
        """Return the log of the absolute Jacobian determinant at each row.

        Parameters
        ----------
        x : Tensor of shape (n, p)
            Rows.

        Returns
        -------
        log_det : Tensor of shape (n,)
            In nats and float64.
        """
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().double().requires_grad_()
            (slopes,) = torch.autograd.grad(self(x).sum(), x)
        return slopes.log().sum(1)


class Standardize(Float64, Scaling):
    r"""Standardised columns, in the dtype of x, clipped or squashed.

    With :math:`u = (x - \mu) / \sigma`, computed in float64 for columns such as 1e6 +- 1, returns u
    clipped to +-1e6, or, with a `bound` b, :math:`u / \sqrt{1 + (u / b)^2}`, which is close to u in
    the middle, and keeps the order of values and stays inside +-b up to rounding.

    Parameters
    ----------
    mean, scale : ndarray of shape (p,)
        :math:`\mu` and :math:`\sigma` of each column.
    bound : float or None, default=None
        b; None clips.
    """

    def __init__(self, mean: np.ndarray, scale: np.ndarray, bound: float | None = None) -> None:
        super().__init__()
        self.bound = bound
        self.mean = nn.Buffer(torch.as_tensor(mean, dtype=torch.float64))
        self.scale = nn.Buffer(torch.as_tensor(scale, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # In place, and no further in float64 than needed: the largest piece beside the network.
        scale = self.scale if self.bound is None else self.scale * self.bound
        v = (x.double() - self.mean).div_(scale).to(x.dtype)
        if self.bound is None:
            return v.clamp_(-1e6, 1e6)
        # The square of a far row overflows, and infinity * 0 is NaN.
        v = v.clamp_(-1e15, 1e15)
        # Not in place, for the gradient by x reads v.
        return (v * v.square().add_(1).rsqrt_()).mul_(self.bound)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        u = y.double()
        if self.bound is not None:
            u = u / (1 - (u / self.bound).square()).sqrt()
        return (u * self.scale + self.mean).to(y.dtype)


class Clip(Scaling):
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

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        return y


class SklearnScaling(nn.Module):
    """A fitted scikit-learn transformer, called on numpy arrays batch by batch.

    Parameters
    ----------
    transformer : transformer
        Fitted.
    limit : float, default=1e6
        Largest absolute value that is passed on.
    """

    # What is shown where cells are missing, in each column; None where none may be.
    fill: np.ndarray | None = None

    def __init__(self, transformer: BaseEstimator, limit: float = 1e6) -> None:
        super().__init__()
        self.transformer = transformer
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.detach().cpu().numpy()
        missing = np.isnan(rows)
        if self.fill is not None:
            most = np.finfo(rows.dtype).max  # what was fitted in float64 may meet float32
            rows = np.where(missing, np.clip(self.fill, -most, most).astype(rows.dtype), rows)
        # scikit-learn looks for infinities by a sum, and what comes out is looked at below.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = self.transformer.transform(rows)
        # Encoders of categories give sparse rows, and set_config may ask for data frames.
        scaled = scaled.toarray() if hasattr(scaled, "toarray") else np.ascontiguousarray(scaled)
        wrong = ""
        is_table = scaled.ndim == 2 and len(scaled) == len(x) and scaled.shape[1] > 0
        if not is_table or scaled.dtype.kind not in "biuf":
            wrong = (
                f"maps rows of shape {tuple(x.shape)} to {scaled.dtype} of {scaled.shape}; it has "
                "to return as many rows, of real numbers, with at least one column."
            )
        elif not np.isfinite(scaled).all():
            wrong = "returned NaN or infinite values, for finite rows. Use one that bounds them."
        elif self.fill is not None and scaled.shape != missing.shape:
            wrong = (
                f"makes {scaled.shape[1]} columns of {missing.shape[1]}, and missing='indicator' "
                "needs one for each: use another scaling, or SimpleImputer in front."
            )
        if wrong:
            raise ValueError(f"scaling={self.transformer!r} {wrong}")
        scaled = np.clip(scaled, -self.limit, self.limit)
        if self.fill is not None:
            scaled = np.where(missing, np.nan, scaled)
        return torch.as_tensor(scaled, dtype=x.dtype, device=x.device)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        """Return what the transformer's `inverse_transform` makes of scaled rows.

        Parameters
        ----------
        y : Tensor of shape (n, q)
            Scaled rows.

        Returns
        -------
        x : Tensor of shape (n, p)

        Raises
        ------
        AttributeError
            If the transformer has no inverse.
        """
        rows = self.transformer.inverse_transform(y.cpu().numpy())
        return torch.as_tensor(rows, dtype=y.dtype, device=y.device)


class NormalScores(Float64, Scaling):
    r"""Normal scores of each column by its quantiles: :math:`\Phi^{-1}(\hat F(x))`, in float64.

    :math:`\hat F` is linear between the quantiles, and in the middle of its step at a repeated one.
    It is kept in [1e-7, 1 - 1e-7], which are the scores -5.2 and 5.2, and has these values from the
    outermost quantiles on. Missing cells stay missing.

    Parameters
    ----------
    quantiles : ndarray of shape (k, p)
        Ascending quantiles of each column.
    references : ndarray of shape (k,)
        Their probabilities.
    """

    def __init__(self, quantiles: np.ndarray, references: np.ndarray) -> None:
        super().__init__()
        self.quantiles = nn.Buffer(torch.tensor(quantiles.T.copy(), dtype=torch.float64))
        self.references = nn.Buffer(torch.tensor(references, dtype=torch.float64))
        # ONNX has no quantile function. By the log of the odds it is smooth in the tails too.
        self.score = Table(lambda odds: ndtri(expit(odds)), 17.0)

    def _share(self, x: torch.Tensor, upper: torch.Tensor, step: float) -> torch.Tensor:
        """Return F at x (p, n) on segments that end at `upper`, `step` where they have no width."""
        right = upper.clamp(1, len(self.references) - 1)
        low, high = self.quantiles.gather(1, right - 1), self.quantiles.gather(1, right)
        width = high - low
        share = torch.where(width > 0, (x - low) / width.clamp(min=1e-300), step).clamp(0, 1)
        left = self.references[right - 1]
        return left + share * (self.references[right] - left)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        missing = x.isnan()
        columns = x.to(torch.float64).masked_fill(missing, 0.0).T
        if torch.compiler.is_compiling():  # ONNX has no search
            cells, knots = columns[:, :, None], self.quantiles[:, None]
            last, first = (cells >= knots).sum(2), (cells > knots).sum(2)
        else:
            columns = columns.contiguous()  # an export of torch 2.9 would refuse a batch of one row
            last = torch.searchsorted(self.quantiles, columns, right=True)
            first = torch.searchsorted(self.quantiles, columns)
        p = 0.5 * (self._share(columns, last, 1.0) + self._share(columns, first, 0.0))
        low, high = self.quantiles.aminmax(dim=1, keepdim=True)
        p = torch.where(columns + LEAST > high, 1.0, p)
        p = torch.where(columns - LEAST < low, 0.0, p)
        scores: torch.Tensor = self.score(torch.log(p / (1 - p)).clamp(-ODDS, ODDS).T)
        return scores.masked_fill(missing, torch.nan).to(x.dtype)

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        p = torch.special.ndtr(y.double().T.contiguous())
        right = torch.searchsorted(self.references, p).clamp(1, len(self.references) - 1)
        before, behind = self.references[right - 1], self.references[right]
        low, high = self.quantiles.gather(1, right - 1), self.quantiles.gather(1, right)
        return torch.lerp(low, high, (p - before) / (behind - before)).T.to(y.dtype)


class Moments(NamedTuple):
    """Mean and variance of each column, of the rows in which it is observed, or 0 if in none."""

    n_rows: Any  # of the shape (p,), where cells are missing
    mean: np.ndarray
    variance: np.ndarray
    quartiles: np.ndarray  # (3, p), of some rows, of a stream the first

    def merge(self, other: Self) -> Self:
        """Return those of both (Chan, Golub, LeVeque, The American Statistician 37, 1983, 2.1)."""
        n_rows = self.n_rows + other.n_rows
        share = other.n_rows / np.maximum(n_rows, np.finfo(np.float64).tiny)  # 0 of 0 rows
        change = other.mean - self.mean
        variance = (1 - share) * self.variance + share * other.variance
        with np.errstate(over="ignore"):
            variance = variance + share * (1 - share) * change**2
        mean = self.mean + share * change
        return self._replace(n_rows=n_rows, mean=mean, variance=variance)


def column_moments(X: RowSource, weights: np.ndarray | None = None) -> Moments:
    """Return the moments of the columns of X (n, p), read slice by slice; missing cells are NaN."""
    scaler = StandardScaler()
    with np.errstate(over="ignore", invalid="ignore"):
        for part in slices(*X.shape):
            # Sums of rows in another memory layout have other last bits.
            rows = np.ascontiguousarray(X[part], dtype=np.float64)
            scaler.partial_fit(rows, sample_weight=None if weights is None else weights[part])
            # NaN, from which no later slice would recover.
            unseen = np.broadcast_to(scaler.n_samples_seen_ == 0, scaler.mean_.shape)
            scaler.mean_[unseen] = scaler.var_[unseen] = 0.0
    n_rows = scaler.n_samples_seen_
    n_rows = n_rows if np.ndim(n_rows) else float(n_rows)
    return Moments(n_rows, scaler.mean_, scaler.var_, _quartiles(X, weights))


def _quartiles(X: RowSource, weights: np.ndarray | None) -> np.ndarray:
    """Return the quartiles (3, p) of rows from all over X, by their weights."""
    most = min(QUARTILE_ROWS, max(2, QUARTILE_CELLS // max(1, X.shape[1])))
    some = np.linspace(0, len(X) - 1, min(len(X), most)).astype(np.int64)
    rows = np.array(X[some], dtype=np.float64)
    rows[:, np.isnan(rows).all(0)] = 0
    each = np.broadcast_to(1.0 if weights is None else weights[some, None], rows.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        # By the method under which a weight is a repetition.
        return np.nanquantile(rows, [0.25, 0.5, 0.75], axis=0, weights=each, method="inverted_cdf")


def from_moments(scaling: str, moments: Moments) -> nn.Module:
    """Return "standard" or "squash" for columns with these moments; constant ones are centred."""
    n_rows, mean, variance, (low, middle, high) = moments
    _check_range(np.isfinite(mean) & np.isfinite(variance), "use scaling='quantile'")
    # What rounding leaves of the variance of equal values, as scikit-learn's StandardScaler has it.
    eps = np.finfo(np.float64).eps
    with np.errstate(over="ignore"):
        constant = variance <= n_rows * eps * variance + (n_rows * mean * eps) ** 2
    scale = np.where(constant, 1.0, np.sqrt(variance))
    if scaling == "standard":
        return Standardize(mean, scale)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = (high - low) / NORMAL_RANGE
        heavy = ~constant & (spread > 0) & (scale > HEAVY * spread)
    mean, scale = np.where(heavy, middle, mean), np.where(heavy, spread, scale)
    return Standardize(mean, scale, bound=SQUASH_BOUND)


def _check_range(finite: np.ndarray, otherwise: str) -> None:
    if not finite.all():
        raise ValueError(
            f"column {int(np.argmin(finite))} overflows: squares, or differences, of its values "
            f"are too large for float64. Divide the column, take its logarithm, or {otherwise}."
        )


def _quantile(X: RowSource, seed: int, weights: np.ndarray | None) -> nn.Module:
    rows = _resampled(X, weights, seed)
    with np.errstate(over="ignore"):
        span = np.subtract(np.fmax.reduce(rows), np.fmin.reduce(rows), dtype=np.float64)
    _check_range(span != np.inf, "use another scaling")
    transformer = QuantileTransformer(n_quantiles=min(1000, len(X)), random_state=seed)
    # scikit-learn's quantiles leave missing cells out, and want one cell that is none.
    unseen = np.isnan(span)
    transformer.fit(np.where(unseen, 0, rows) if unseen.any() else rows)
    return NormalScores(transformer.quantiles_, transformer.references_)


def _resampled(X: RowSource, weights: np.ndarray | None, seed: int) -> np.ndarray:
    """Return all rows, or as many drawn by their weights, for what takes no weights."""
    if is_sparse(X):
        raise ValueError(
            "X is sparse, and this scaling is fitted to all rows at once, zeros and all. Use "
            f"scaling={', '.join(map(repr, BY_MOMENTS))} or None, or pass X.toarray()."
        )
    if weights is None:
        return X[:]
    drawn = np.random.default_rng(seed).choice(len(X), len(X), p=weights / weights.sum())
    return X[np.sort(drawn)]


def _by_moments(scaling: str, X: RowSource, seed: int, weights: np.ndarray | None) -> nn.Module:
    return from_moments(scaling, column_moments(X, weights))


# Those that need the moments of the columns only, which a stream can keep up to date.
BY_MOMENTS = ("squash", "standard")
SCALINGS: Mapping[str, Callable[[RowSource, int, np.ndarray | None], nn.Module]] = {
    **{name: partial(_by_moments, name) for name in BY_MOMENTS},
    "quantile": _quantile,
}


def takes_sparse(scaling: object) -> bool:
    """Tell whether a scaling, as a user has passed it, can be fitted to sparse rows."""
    return scaling is None or (isinstance(scaling, str) and scaling in BY_MOMENTS)


def resolve_scaling(scaling: object) -> Any:
    """Return the name, or the transformer, that a value of `scaling` stands for.

    Parameters
    ----------
    scaling : str, class, transformer or None
        As of `NoisyDIMTransformer`; a class is called without arguments.

    Returns
    -------
    scaling : str, transformer or None
        Of a transformer a copy that is not fitted.

    Raises
    ------
    TypeError, ValueError
        If it has no method `transform`, is a class that needs arguments, or an unknown name.
    """
    also = ["None", "a scikit-learn transformer"]
    if isinstance(scaling, str):
        return check_name(scaling, SCALINGS, "scaling", also)
    if scaling is None:
        return None
    return resolve(scaling, SCALINGS, "scaling", method="transform", also=also)


def fit_scaling(
    scaling: Any, X: RowSource, seed: int, weights: np.ndarray | None = None, missing: bool = False
) -> nn.Module:
    """Return the module that scales rows like those of X.

    Parameters
    ----------
    scaling : str, class, transformer or None
        As of `resolve_scaling`.
    X : array-like of shape (n, p)
        Rows, read slice by slice if that will do.
    seed : int
        For each `random_state` of a transformer that is None, and for rows that are drawn.
    weights : ndarray of shape (n,) or None, default=None
        How much rows count. A transformer is fitted to rows that are drawn in proportion.
    missing : bool, default=False
        Whether cells may be NaN, which they stay. A transformer is shown the mean of their column.

    Returns
    -------
    module : nn.Module
        Rows (n, p) -> scaled rows (n, q).

    Raises
    ------
    TypeError, ValueError
        As of `resolve_scaling`; if values are too large, or X is sparse and the scaling is fitted
        to all rows at once. What a transformer raises goes on.
    """
    scaling = resolve_scaling(scaling)
    if scaling is None:
        parts = [np.fmax.reduce(np.abs(X[part]), axis=None) for part in slices(*X.shape)]
        largest = np.fmax.reduce(parts)  # a part may have missing cells alone
        if largest > np.finfo(np.float32).max:
            raise ValueError(
                f"X holds {largest:.3g}, too large for float32, and scaling=None leaves it so. "
                "Use scaling='standard' or 'quantile'."
            )
        return Clip()
    if isinstance(scaling, str):
        return SCALINGS[scaling](X, seed, weights)
    fill = column_moments(X, weights).mean if missing else None
    rows = _resampled(X, weights, seed)
    if fill is not None:
        rows = np.where(np.isnan(rows), fill, rows).astype(rows.dtype, copy=False)
    set_seeds(scaling, seed)
    try:
        fitted = SklearnScaling(scaling.fit(rows))
    except Exception as error:  # a user's code may raise anything; it goes on
        if "columns using strings" in str(error) or "make_column_selector" in str(error):
            raise ValueError(
                f"scaling={scaling!r} is given arrays, without names: choose columns by number, or "
                "put it in front, make_pipeline(ColumnTransformer(...), NoisyDIMTransformer(...))."
            ) from error
        error.add_note(f"It came from the fit of scaling={scaling!r}.")
        raise
    fitted.fill = fill
    return fitted
