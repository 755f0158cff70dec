"""Rows by index: scaled float32 batches without any per-row Python."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data
from torch import nn
from torch.utils.data import Dataset

from sknoisydim.scaling import slices

# A scaled copy up to this size is kept; beyond it, rows are read and scaled batch by batch.
COPY_BYTES = 2**27


@dataclass(frozen=True)
class Table:
    """Validated rows, and what is known of them.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Finite rows; those of more dimensions are flattened.
    codes : ndarray of int of shape (n,) or None
        Class of each row, -1 for unlabelled; None without supervision.
    weights : ndarray of shape (n,) or None
        Positive, with mean 1; None where rows count alike.
    shape : tuple of int or None
        That of a row as the encoder takes it, where it has more dimensions than one.
    """

    X: np.ndarray
    codes: np.ndarray | None = None
    weights: np.ndarray | None = None
    shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.X)

    def without_weightless(self) -> Table:
        """Return the table without its rows of weight 0.

        Raises
        ------
        ValueError
            If that leaves a single row.
        """
        if self.weights is None or self.weights.all():
            return self
        some = self.weights > 0
        if some.sum() < 2:
            raise ValueError(
                "sample_weight leaves 1 sample with a weight above 0, and a minimum of 2 is "
                "required."
            )
        codes = None if self.codes is None else self.codes[some]
        weights = check_weights(self.weights[some], int(some.sum()))
        return Table(self.X[some], codes, weights, self.shape)


def check_rows(
    estimator: Any,
    X: Any,
    *,
    known: tuple[int, ...] | None = None,
    any_shape: bool = False,
    **options: Any,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the rows as an array (n, p) of float32 or float64, and the shape of one of them.

    Parameters
    ----------
    estimator : estimator
        Gets the number and the names of the columns, or is asked for them where `known` is given.
    X : array-like of shape (n, p) or (n, ...)
        What a user passed.
    known : tuple of int, optional
        The shape of the rows that the estimator was fitted to.
    any_shape : bool, default=False
        Whether rows may have more dimensions than one; they are flattened then.
    **options
        Of `sklearn.utils.validation.validate_data`.

    Raises
    ------
    ValueError, TypeError
        If X is no table of finite numbers, or has rows of another shape, or other columns.
    """
    options = {"dtype": [np.float64, np.float32]} | options
    shape: tuple[int, ...] | None = None
    _check_frame(X)
    # scikit-learn looks for infinities by a sum, and that of both signs is NaN with a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        if any_shape:
            if isinstance(X, (list, tuple)):
                X = check_array(X, allow_nd=True, **options)
            if getattr(X, "ndim", 2) > 2:
                X = check_array(X, allow_nd=True, **options)
                shape = X.shape[1:]
                X = X.reshape(len(X), -1)
        if shape is None or known is None or shape == known:
            rows: np.ndarray = validate_data(estimator, X, reset=known is None, **options)
            shape = shape or rows.shape[1:]
    if known is not None and shape != known:
        raise ValueError(
            f"X has rows of shape {shape}, but {type(estimator).__name__} was fitted to rows of "
            f"shape {known}."
        )
    return rows, shape


def _check_frame(X: Any) -> None:
    """See to what scikit-learn does not see in a pandas frame, or says in other words."""
    dtypes = getattr(X, "dtypes", None)
    if dtypes is None or not hasattr(X, "iloc"):
        return
    if any(getattr(dtype, "kind", "") == "c" for dtype in np.atleast_1d(dtypes)):
        raise ValueError("Complex data not supported: X has columns of complex numbers.")
    if X.ndim == 2 and X.shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={X.shape}) while a minimum of 1 is required."
        )


def check_same_columns(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """See that a table has the columns of the last fit, which a warm start goes on from.

    Parameters
    ----------
    before, now : mapping
        Attributes of the estimator.

    Raises
    ------
    ValueError
        If not.
    """
    if now["n_features_in_"] != before["n_features_in_"]:
        raise ValueError(
            f"X has {now['n_features_in_']} columns, and warm_start=True goes on from a fit on "
            f"{before['n_features_in_']}. Use warm_start=False."
        )
    names, old = now.get("feature_names_in_"), before.get("feature_names_in_")
    if names is not None and old is not None and list(names) != list(old):
        raise ValueError(
            f"X has the columns {list(names)}, and warm_start=True goes on from a fit on "
            f"{list(old)}. Use the same columns in the same order, or warm_start=False."
        )


def check_weights(weights: Any, n_rows: int) -> np.ndarray | None:
    """Return the weights of rows with mean 1, or None where all rows count alike.

    Raises
    ------
    ValueError, TypeError
        If they are not one finite number >= 0 for each row, or all of them are 0.
    """
    if weights is None:
        return None
    if isinstance(weights, numbers.Real):
        weights = np.full(n_rows, weights)
    weights = check_array(weights, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weights.ndim > 1:
        raise ValueError(f"Sample weights must be a 1D array, got one with {weights.ndim}.")
    if weights.ndim == 1 and len(weights) != n_rows:
        raise ValueError(
            f"sample_weight.shape == {weights.shape}, expected {(n_rows,)}: a weight for each row."
        )
    if (weights < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`: weights are >= 0.")
    if not weights.any():
        raise ValueError(
            "Sample weights must contain at least one non-zero number: a row of weight 0 is left "
            "out, and that leaves none."
        )
    if (weights == weights.max()).all():
        return None
    scaled: np.ndarray = weights / weights.max()  # their sum may be too large for float64
    return scaled / scaled.mean()


class Rows(Dataset[torch.Tensor]):
    """Scaled rows of a table.

    Parameters
    ----------
    X : ndarray of shape (n, p)
        Any layout, read-only or memory-mapped.
    scaling : nn.Module
        From `sknoisydim.scaling`.
    index : ndarray of int, optional
        The rows of X to use; all by default.
    device : torch.device
        Where batches are wanted.
    weights : ndarray of shape (n,), optional
        How often each row of X is drawn, in proportion; all alike by default.
    shape : tuple of int, optional
        That of a scaled row, where it has more dimensions than one.
    """

    def __init__(
        self,
        X: np.ndarray,
        scaling: nn.Module,
        device: torch.device,
        index: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.X = X
        self.scaling = scaling
        self.device = device
        self.index = np.arange(len(X)) if index is None else index
        self.shape = shape
        self.weights = None if weights is None else torch.from_numpy(weights[self.index])
        self._shares = None if self.weights is None else self.weights.cumsum(0)
        self._scaled: torch.Tensor | None = None
        width = self._read(self.index[:1])[0].numel()
        if 4 * width * len(self.index) <= COPY_BYTES:
            scaled = [self._read(self.index[part]) for part in slices(len(self), width)]
            self._scaled = torch.cat(scaled).to(device)

    def __len__(self) -> int:
        return len(self.index)

    def _read(self, rows: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            # One layout, that of the rows of an array: a data frame gives the same last bits.
            x = self.scaling(torch.from_numpy(np.ascontiguousarray(self.X[rows]))).float()
        if self.shape is None:
            return x
        if x[0].numel() != np.prod(self.shape):
            raise ValueError(
                f"scaling makes {x[0].numel()} columns of the {self.X.shape[1]} cells of a row; "
                f"rows of shape {self.shape} need one for each cell."
            )
        return x.view(-1, *self.shape)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return the positions (count,) of rows drawn at random.

        Without repetition, and then not more than there are; in proportion to the weights, and with
        repetition, where there are weights.
        """
        if self._shares is None:
            return torch.randperm(len(self), generator=generator)[:count]
        return draw_between(self._shares, torch.rand(count, generator=generator).double())

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows with these positions (m,) as a float32 tensor (m, p)."""
        if self._scaled is not None:
            return self._scaled.index_select(0, rows.to(self.device))
        return self._read(self.index[rows.numpy()]).to(self.device)

    def in_order(self, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield all rows once, in order; the last batch may be smaller."""
        for positions in torch.arange(len(self)).split(batch_size):
            yield self.take(positions)


def draw_between(
    shares: torch.Tensor, chance: torch.Tensor, start: Any = 0, stop: Any = None
) -> torch.Tensor:
    """Return positions from `start` to before `stop`, in proportion to their weights.

    Parameters
    ----------
    shares : Tensor of shape (n,)
        Cumulative sums of the weights, in float64.
    chance : Tensor of shape (m,)
        Uniform numbers in [0, 1).
    start, stop : Tensor of shape (m,) or int
        Where each draw looks; everywhere by default.
    """
    start = torch.as_tensor(start).expand(len(chance))
    stop = torch.as_tensor(len(shares) if stop is None else stop).expand(len(chance))
    below = torch.where(start > 0, shares[start - 1], 0.0)
    value = below + chance * (shares[stop - 1] - below)
    found = torch.searchsorted(shares, value, right=True)
    return found.maximum(start).minimum(stop - 1)


class SameClass:
    """Draw, with a given probability, another row of a row's class in its place.

    Parameters
    ----------
    codes : ndarray of int of shape (n,)
        Class of each row, -1 where it is unknown; such rows stand for themselves.
    probability : float
        Of drawing a row of the class.
    weights : Tensor of shape (n,), optional
        How often a row is drawn among those of its class, in proportion.
    """

    def __init__(
        self, codes: np.ndarray, probability: float, weights: torch.Tensor | None = None
    ) -> None:
        self.probability = probability
        self.codes = torch.as_tensor(codes, dtype=torch.int64)
        self.order = torch.argsort(self.codes, stable=True)
        ordered = self.codes[self.order]
        classes = torch.arange(int(self.codes.max()) + 1)
        self.start = torch.searchsorted(ordered, classes)
        self.count = torch.searchsorted(ordered, classes, right=True) - self.start
        self.shares = None if weights is None else weights[self.order].cumsum(0)

    def __call__(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the positions (m,) of partners of the rows at these positions (m,)."""
        codes = self.codes[rows]
        known = codes >= 0
        codes = codes.clamp(min=0)
        chance = torch.rand(2, len(rows), generator=generator)
        start, count = self.start[codes], self.count[codes]
        if self.shares is None:
            drawn = start + (chance[1] * count).long()
        else:
            # A class may have no row here: its draw is not used.
            stop = (start + count).clamp(min=1)
            drawn = draw_between(self.shares, chance[1].double(), start.minimum(stop - 1), stop)
        return torch.where(known & (chance[0] < self.probability), self.order[drawn], rows)


class Batches:
    """One epoch of pairs (rows, their partners), the same tensor twice without supervision.

    The last batch is dropped when it is not full, unless it is the only one: a batch of a
    different size has another bound, and one row has no statistics. Rows that have weights are
    drawn in proportion to them, with repetition.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        generator: torch.Generator,
        partners: SameClass | None = None,
        shuffle: bool = True,
    ) -> None:
        self.shuffle = shuffle
        self.rows = rows
        self.batch_size = min(batch_size, len(rows))
        self.generator = generator
        self.partners = partners

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.arange(len(self.rows))
        if self.shuffle:
            order = self.rows.draw(len(self.rows), self.generator)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            positions = order[start : start + self.batch_size]
            x = self.rows.take(positions)
            if self.partners is None:
                yield x, x
            else:
                yield x, self.rows.take(self.partners(positions, self.generator))
