"""Rows by index: scaled float32 batches without any per-row Python."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from sknoisydim.scaling import slices

# A scaled copy up to this size is kept; beyond it, rows are read and scaled batch by batch.
COPY_BYTES = 2**27


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
    """

    def __init__(
        self,
        X: np.ndarray,
        scaling: nn.Module,
        device: torch.device,
        index: np.ndarray | None = None,
    ) -> None:
        self.X = X
        self.scaling = scaling
        self.device = device
        self.index = np.arange(len(X)) if index is None else index
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
            return self.scaling(torch.from_numpy(np.ascontiguousarray(self.X[rows]))).float()

    def take(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows with these positions (m,) as a float32 tensor (m, p)."""
        if self._scaled is not None:
            return self._scaled.index_select(0, rows.to(self.device))
        return self._read(self.index[rows.numpy()]).to(self.device)

    def in_order(self, batch_size: int) -> Iterator[torch.Tensor]:
        """Yield all rows once, in order; the last batch may be smaller."""
        for positions in torch.arange(len(self)).split(batch_size):
            yield self.take(positions)


class SameClass:
    """Draw, with a given probability, another row of a row's class in its place.

    Parameters
    ----------
    codes : ndarray of int of shape (n,)
        Class of each row, -1 where it is unknown; such rows stand for themselves.
    probability : float
        Of drawing a row of the class.
    """

    def __init__(self, codes: np.ndarray, probability: float) -> None:
        self.probability = probability
        self.codes = torch.as_tensor(codes, dtype=torch.int64)
        self.order = torch.argsort(self.codes, stable=True)
        ordered = self.codes[self.order]
        classes = torch.arange(int(self.codes.max()) + 1)
        self.start = torch.searchsorted(ordered, classes)
        self.count = torch.searchsorted(ordered, classes, right=True) - self.start

    def __call__(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the positions (m,) of partners of the rows at these positions (m,)."""
        codes = self.codes[rows]
        known = codes >= 0
        codes = codes.clamp(min=0)
        chance = torch.rand(2, len(rows), generator=generator)
        drawn = self.start[codes] + (chance[1] * self.count[codes]).long()
        return torch.where(known & (chance[0] < self.probability), self.order[drawn], rows)


class Batches:
    """One epoch of pairs (rows, their partners), the same tensor twice without supervision.

    The last batch is dropped when it is not full, unless it is the only one: a batch of a
    different size has another bound, and one row has no statistics.
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
            order = torch.randperm(len(self.rows), generator=self.generator)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            positions = order[start : start + self.batch_size]
            x = self.rows.take(positions)
            if self.partners is None:
                yield x, x
            else:
                yield x, self.rows.take(self.partners(positions, self.generator))
