"""Rows by index: scaled float32 batches without any per-row Python."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import nn

from sknoisydim._input import check_weights
from sknoisydim._references import Reference
from sknoisydim._sources import ChosenRows, RowSource, slices

# A scaled copy up to this size is kept in memory; beyond it, rows are read and scaled by batch.
COPY_BYTES = 2**27


@dataclass(frozen=True)
class Table:
    """Validated rows (n, p), and what is known of them.

    `shape` is that of a row of more dimensions than one, which is flattened. `targets` are classes
    (n,), -1 for unlabelled, or numbers (n, k), NaN where unknown. `weights` (n,) have mean 1.
    """

    X: RowSource
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.X)

    def take(self, index: np.ndarray) -> Self:
        """Return the table of the rows at these positions, which are not copied."""
        targets = None if self.targets is None else self.targets[index]
        weights = None if self.weights is None else self.weights[index]
        return replace(self, X=ChosenRows(self.X, index), targets=targets, weights=weights)

    def without_weightless(self) -> Self:
        """Return the table without its rows of weight 0."""
        if self.weights is None or self.weights.all():
            return self
        some = np.flatnonzero(self.weights)
        if len(some) < 2:
            raise ValueError("sample_weight leaves 1 sample; a minimum of 2 is required.")
        weights = check_weights(self.weights[some], len(some))
        return replace(self.take(some), weights=weights)


class Rows:
    """Scaled rows of a table as batches on a device, read as needed where a copy would be large."""

    def __init__(self, table: Table, scaling: nn.Module, device: torch.device) -> None:
        self.X, self.targets, self.shape = table.X, table.targets, table.shape
        self.scaling, self.device = scaling, device
        self.weights = None if table.weights is None else torch.from_numpy(table.weights)
        self._shares = None if self.weights is None else self.weights.cumsum(0)
        self._scaled: torch.Tensor | None = None
        first = self._read(np.arange(1))
        # Half of what is free: a network and its batches take far less than the other half.
        half = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 0
        if 4 * first.numel() * len(self) <= max(COPY_BYTES, half):
            scaled = first.new_empty((len(self), *first.shape[1:]), device=device)
            for part in slices(len(self), first.numel()):
                scaled[part] = self._read(np.arange(part.start, part.stop)).to(device)
            self._scaled = scaled

    def __len__(self) -> int:
        return len(self.X)

    def _read(self, positions: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            # One layout, that of the rows of an array: a data frame gives the same last bits.
            x = self.scaling(torch.from_numpy(np.ascontiguousarray(self.X[positions]))).float()
        if self.shape is None:
            return x
        if x[0].numel() != np.prod(self.shape):
            raise ValueError(
                f"scaling makes {x[0].numel()} columns of the {self.X.shape[1]} cells of a row; "
                f"rows of shape {self.shape} need one for each cell."
            )
        return x.view(-1, *self.shape)

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return the positions (count,) of rows drawn at random; with weights, repeatedly."""
        if self._shares is None:
            # The same numbers in half the memory, which matters beyond ten million rows.
            kind = torch.int32 if len(self) < 2**31 else torch.int64
            drawn = torch.randperm(len(self), generator=generator, dtype=kind)
            return drawn if count >= len(self) else drawn[:count].clone()
        # In float32 there are too few numbers for a large table.
        place = torch.rand(count, generator=generator, dtype=torch.float64) * self._shares[-1]
        # Rounding may move the last one out of the range.
        return torch.searchsorted(self._shares, place, right=True).clamp(0, len(self) - 1)

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows with these positions (m,) as a float32 tensor (m, p)."""
        if self._scaled is not None:
            return self._scaled.index_select(0, rows.to(self.device, non_blocking=True))
        read, on_gpu = self._read(rows.numpy()), self.device.type == "cuda"
        # A step only queues its work there, so the next rows are read, and travel, meanwhile.
        return (read.pin_memory() if on_gpu else read).to(self.device, non_blocking=on_gpu)

    def in_order(self, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield all rows once, in order; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.take(torch.arange(start, min(start + batch_size, len(self))))


@dataclass(eq=False)
class Batches:
    """One epoch of pairs (rows, their reference features).

    The last batch is dropped when it is not full, unless it is the only one: a batch of a
    different size has another bound, and one row has no statistics.
    """

    rows: Rows
    batch_size: int
    generator: torch.Generator
    references: Sequence[Reference] = ()
    shuffle: bool = True

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, len(self.rows))

    def __len__(self) -> int:
        return len(self.rows) // self.batch_size

    def of(self, positions: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return the rows at these positions, and their reference features."""
        x = self.rows.take(positions)
        return x, tuple(reference(positions, x) for reference in self.references)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, tuple[torch.Tensor, ...]]]:
        n_rows = len(self.rows)
        order = self.rows.draw(n_rows, self.generator) if self.shuffle else torch.arange(n_rows)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield self.of(order[start : start + self.batch_size].long())
