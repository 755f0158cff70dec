"""Rows by index: scaled float32 batches without any per-row Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from sknoisydim._input import check_weights
from sknoisydim._sources import ChosenRows, RowSource, slices

# A scaled copy up to this size is kept in memory; beyond it, rows are read and scaled by batch.
COPY_BYTES = 2**27


@dataclass(frozen=True)
class Table:
    """Validated rows, and what is known of them.

    Parameters
    ----------
    X : RowSource of shape (n, p)
        Finite rows; those of more dimensions are flattened.
    codes : ndarray of int of shape (n,) or None
        Class of each row, -1 for unlabelled; None without supervision.
    weights : ndarray of shape (n,) or None
        Positive, with mean 1; None where rows count alike.
    shape : tuple of int or None
        That of a row as the encoder takes it, where it has more dimensions than one.
    """

    X: RowSource
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
        some = np.flatnonzero(self.weights)
        if len(some) < 2:
            raise ValueError(
                "sample_weight leaves 1 sample with a weight above 0, and a minimum of 2 is "
                "required."
            )
        codes = None if self.codes is None else self.codes[some]
        weights = check_weights(self.weights[some], len(some))
        return Table(ChosenRows(self.X, some), codes, weights, self.shape)


def _room(device: torch.device) -> int:
    """Return the bytes that a scaled copy of the rows may take on a device."""
    if device.type != "cuda":
        return COPY_BYTES
    # Half of what is free: a network and its batches take far less than the other half.
    return max(COPY_BYTES, torch.cuda.mem_get_info(device)[0] // 2)


class Rows(Dataset[torch.Tensor]):
    """Scaled rows of a table.

    Parameters
    ----------
    X : RowSource of shape (n, p)
        Read batch by batch where a scaled copy would be large.
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
        X: RowSource,
        scaling: nn.Module,
        device: torch.device,
        index: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.X = X
        self.scaling = scaling
        self.device = device
        self.index = index
        self.shape = shape
        self.weights = None if weights is None else torch.from_numpy(self.of(weights))
        self._shares = None if self.weights is None else self.weights.cumsum(0)
        self._scaled: torch.Tensor | None = None
        first = self._read(np.arange(1))
        if 4 * first.numel() * len(self) <= _room(device):
            whole = (len(self), *first.shape[1:])
            scaled = torch.empty(whole, dtype=torch.float32, device=device)
            for part in slices(len(self), first.numel()):
                scaled[part] = self._read(np.arange(part.start, part.stop)).to(device)
            self._scaled = scaled

    def __len__(self) -> int:
        return len(self.X) if self.index is None else len(self.index)

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return those of the values (n,), one for each row of X, that belong to these rows."""
        return values if self.index is None else values[self.index]

    def _read(self, positions: np.ndarray) -> torch.Tensor:
        rows = positions if self.index is None else self.index[positions]
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
            n_rows = len(self)
            # The same numbers in half the room, which counts beyond ten million rows.
            kind = torch.int32 if n_rows < 2**31 else torch.int64
            drawn = torch.randperm(n_rows, generator=generator, dtype=kind)
            return drawn if count >= n_rows else drawn[:count].clone()
        return draw_between(
            self._shares, torch.rand(count, generator=generator, dtype=torch.float32).double()
        )

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows with these positions (m,) as a float32 tensor (m, p)."""
        if self._scaled is not None:
            return self._scaled.index_select(0, rows.to(self.device, non_blocking=True))
        read = self._read(rows.numpy())
        if self.device.type == "cuda":
            # A step only queues its work there, so the next rows are read while it goes on, and
            # pinned ones travel meanwhile, too.
            return read.pin_memory().to(self.device, non_blocking=True)
        return read.to(self.device)

    def in_order(self, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield all rows once, in order; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.take(torch.arange(start, min(start + batch_size, len(self))))


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
    """Draw another row of a row's class.

    Parameters
    ----------
    codes : ndarray of int of shape (n,)
        Class of each row, -1 where it is unknown; such rows stand for themselves.
    weights : Tensor of shape (n,), optional
        How often a row is drawn among those of its class, in proportion.
    """

    def __init__(self, codes: np.ndarray, weights: torch.Tensor | None = None) -> None:
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
        chance = torch.rand(len(rows), generator=generator, dtype=torch.float32)
        start, count = self.start[codes], self.count[codes]
        if self.shares is None:
            drawn = start + (chance * count).long()
        else:
            # A class may have no row here: its draw is not used.
            stop = (start + count).clamp(min=1)
            drawn = draw_between(self.shares, chance.double(), start.minimum(stop - 1), stop)
        return torch.where(known, self.order[drawn], rows)


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
        n_rows = len(self.rows)
        order = self.rows.draw(n_rows, self.generator) if self.shuffle else torch.arange(n_rows)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            positions = order[start : start + self.batch_size].long()
            x = self.rows.take(positions)
            if self.partners is None:
                yield x, x
            else:
                yield x, self.rows.take(self.partners(positions, self.generator))
