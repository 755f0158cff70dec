"""Rows that are read by index, whatever holds them: a block becomes dense, the rest stays put."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

# Cells of a slice in which statistics are gathered: 16 MB of float64.
_SLICE_CELLS = 2**21
# What torch reads as it is; rows of any other numbers are read as float64.
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

# What a user may pass as rows; data frames, too, are array-like.
MatrixLike: TypeAlias = ArrayLike | sparse.spmatrix | sparse.sparray


class Source(ABC):
    """A source that is no ndarray; `is_sparse`: as one it would be far larger."""

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, given: Any = None, is_sparse: bool = False
    ) -> None:
        self.shape, self.given, self.is_sparse = shape, given, is_sparse
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def __getitem__(self, index: Any, /) -> np.ndarray:
        """Return rows as an array; the index is a slice or an array of positions."""


# Rows that are read by index: with a slice or an array of positions, either returns these m rows as
# an ndarray (m, p) of its dtype, in any layout. An ndarray (n, p) of float32 or float64 is one.
RowSource: TypeAlias = np.ndarray | Source


class ConvertedRows(Source):
    """Rows of an array of other numbers, or of more dimensions, converted when they are read."""

    def __init__(self, array: np.ndarray) -> None:
        dtype = array.dtype if array.dtype in FLOATS else np.float64
        super().__init__((len(array), int(np.prod(array.shape[1:]))), dtype, array)

    def __getitem__(self, index: Any, /) -> np.ndarray:
        rows = np.ascontiguousarray(self.given[index], dtype=self.dtype)
        return rows.reshape(len(rows), self.shape[1])


class SparseRows(Source):
    """Rows of a sparse matrix or array, zeros and all when they are read."""

    def __init__(self, matrix: Any) -> None:
        super().__init__(matrix.shape, matrix.dtype, matrix, is_sparse=True)

    def __getitem__(self, index: Any, /) -> np.ndarray:
        return self.given[index].toarray()


class ChosenRows(Source):
    """Some rows of a source, in an order of their own; nothing is copied before it is read."""

    def __init__(self, source: RowSource, index: np.ndarray) -> None:
        shape = (len(index), *source.shape[1:])
        super().__init__(shape, source.dtype, is_sparse=is_sparse(source))
        self.source, self.index = source, index

    def __getitem__(self, index: Any, /) -> np.ndarray:
        return self.source[self.index[index]]


class StackedRows(Source):
    """The rows of one source, and then those of another."""

    def __init__(self, first: RowSource, second: RowSource) -> None:
        shape = (len(first) + len(second), *first.shape[1:])
        dtype = np.result_type(first.dtype, second.dtype)
        super().__init__(shape, dtype, is_sparse=is_sparse(first) or is_sparse(second))
        self.first, self.second = first, second

    def __getitem__(self, index: Any, /) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        n_first = len(self.first)
        early = index < n_first
        rows = np.empty((len(index), *self.shape[1:]), self.dtype)
        rows[early] = self.first[index[early]]
        rows[~early] = self.second[index[~early] - n_first]
        return rows


def is_sparse(source: RowSource) -> bool:
    """Tell whether all rows of a source at once would be far larger than what holds them."""
    return getattr(source, "is_sparse", False)


def as_csr(matrix: Any) -> Any:
    """Return a sparse matrix or array in CSR format, each cell once: itself, where it is so."""
    if matrix.format in ("csr", "csc", "bsr"):
        matrix.check_format()  # scipy would write its cells outside of the dense rows
    matrix = matrix.tocsr()
    if not matrix.has_canonical_format:
        matrix = matrix.copy()  # the user's own stays as it is
        matrix.sum_duplicates()
    return matrix


def as_source(rows: Any) -> RowSource:
    """Return a source of rows: of a source or an array of floats, itself."""
    if sparse.issparse(rows):
        return SparseRows(rows)
    whole = isinstance(rows, Source) or (rows.ndim == 2 and rows.dtype in FLOATS)
    return rows if whole else ConvertedRows(rows)


def as_given(rows: RowSource, shape: tuple[int, ...] | None) -> Any:
    """Return what a source reads from, for code that is not ours."""
    held: Any = rows.given if isinstance(rows, Source) else rows
    return held if shape is None else held.reshape(-1, *shape)


def slices(n_rows: int, n_cells_per_row: int) -> Iterator[slice]:
    """Yield consecutive slices of rows with a bounded number of cells each."""
    step = max(1, _SLICE_CELLS // max(1, n_cells_per_row))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def missing_columns(X: RowSource) -> np.ndarray:
    """Return the columns of X (n, p) with a missing cell, which is NaN, in order."""
    found = np.zeros(X.shape[1], dtype=bool)
    for part in slices(*X.shape):
        found |= np.isnan(X[part]).any(0)
    return np.flatnonzero(found)
