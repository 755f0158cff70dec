"""Cells, or blocks of them, from other rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sklearn.base import BaseEstimator

from sknoisydim._context import own_context
from sknoisydim._validation import check_real

from ._base import has_missing


def _gaps(x: torch.Tensor, unit: torch.Tensor, n_units: int) -> torch.Tensor:
    """Tell which units (n, n_units) of columns miss a cell; `unit` (p,) is that of each column."""
    total = torch.zeros(len(x), n_units, device=x.device, dtype=torch.float32)
    return total.index_add_(1, unit, x.isnan().float()) > 0


def _draw(
    x: torch.Tensor, rate: float, generator: torch.Generator, unit: torch.Tensor, n_units: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw which units of columns are replaced, and from which rows that have them observed.

    `unit` (p,) is the unit of each column. Both results are of shape (n, n_units).
    """
    shape = (len(x), n_units)
    mask = torch.rand(shape, generator=generator, device=x.device, dtype=torch.float32) < rate
    if not has_missing(x):
        return mask, torch.randint(len(x), shape, generator=generator, device=x.device)
    gaps = _gaps(x, unit, n_units)
    count = (~gaps).sum(0)
    # In float64, where no draw is rounded up to 1.
    u = torch.rand(shape, generator=generator, device=x.device, dtype=torch.float64)
    observed_first = gaps.to(torch.uint8).argsort(dim=0, stable=True)
    return mask & (count > 0), observed_first.gather(0, (u * count).long())


@own_context(gradients=False)
def one_hot_blocks(x: torch.Tensor) -> list[list[int]]:
    """Return the blocks of adjacent columns that look like one-hot codes.

    Each column of a block has two values (any two: scaling moves 0 and 1), and in every row one
    column alone has its larger value. A column with one value only is a level that the sample
    happens not to show, where it stands inside a block. Where a cell of the block is missing (NaN),
    at most one of the others has its larger value.

    Parameters
    ----------
    x : Tensor of shape (n, p)
        Scaled rows.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import one_hot_blocks
    >>> codes = 3 * torch.eye(3)[[0, 1, 2, 1]] - 1
    >>> one_hot_blocks(torch.cat([torch.arange(4.0)[:, None], codes], 1))
    [[1, 2, 3]]
    """
    missing = x.isnan()
    low = x.masked_fill(missing, torch.inf).amin(0)
    high = x.masked_fill(missing, -torch.inf).amax(0)
    # A value that comes out of another lane of a vectorised scaling may differ in its last bit.
    slack = 1e-4 * (high - low)
    ones = (x >= high - slack) & (low < high)
    # True for columns of two values, and for those of one, or none.
    usable = (ones | (x <= low + slack) | missing).all(0).tolist()
    constant = (low >= high).tolist()
    blocks, start, p = [], 0, x.shape[1]
    while start < p:
        stop = start
        total = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        settled = gaps = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        while stop < p and usable[stop] and not constant[start]:
            total += ones[:, stop]
            gaps = gaps | missing[:, stop]
            settled = (total == 1) | (gaps & (total == 0))
            stop += 1
            if total.max() > 1 or settled.all():
                break
        # Rows with gaps agree with many a block: some without have to say that it is one.
        found = stop - start > 1 and bool(settled.all() and not gaps.all())
        if found:
            blocks.append(list(range(start, stop)))
        start = stop if found else start + 1
    return blocks


class BlockCorruption:
    """Corruption of units of columns: each unit as one, from one row."""

    def __init__(self, rate: float, groups: Sequence[Sequence[int]], n_columns: int) -> None:
        self.rate = rate
        self.unit = torch.full((n_columns,), -1)
        for number, group in enumerate(groups):
            columns = torch.as_tensor(list(group))
            if columns.is_floating_point() or ((columns < 0) | (columns >= n_columns)).any():
                raise ValueError(
                    f"augmentation groups must hold column numbers from 0 to {n_columns - 1}, got "
                    f"{list(group)}."
                )
            if (self.unit[columns] >= 0).any() or len(columns.unique()) < len(columns):
                raise ValueError(
                    f"augmentation groups must not share a column, and {list(group)} does."
                )
            self.unit[columns] = number
        alone = self.unit < 0
        self.unit[alone] = torch.arange(int(alone.sum())) + len(groups)
        self.n_units = int(alone.sum()) + len(groups)

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        unit = self.unit.to(x.device)
        mask, rows = _draw(x, self.rate, generator, unit, self.n_units)
        return torch.where(mask[:, unit], x.gather(0, rows[:, unit]), x)


class FeatureCorruption(BaseEstimator):
    r"""Replace random cells by the same column's value in a random row of the batch.

    Each cell is replaced with probability `rate`, each from a row of its own, so a corrupted cell
    follows the column's marginal distribution (SCARF). Columns of a group are replaced together,
    from one row: half of a one-hot block from one row and half from another is no category.

    No value comes from a missing cell: the other row is drawn among those in which the column, or
    every column of the group, is observed; without any in the batch the cell stays as it is.

    Parameters
    ----------
    rate : float, default=0.5
        Probability that a cell, or a group, is replaced, in [0, 1].
    groups : None, "auto" or list of lists of int, default=None
        Columns that are replaced as one, by number; columns in no group stand for themselves.
        "auto" finds one-hot blocks in a sample of the rows: see `one_hot_blocks`.

    References
    ----------
    D. Bahri, H. Jiang, Y. Tay, D. Metzler, "SCARF: Self-Supervised Contrastive Learning using
    Random Feature Corruption", ICLR 2022, section 3. Groups are ours.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import FeatureCorruption
    >>> x = torch.arange(12.0).reshape(4, 3)
    >>> view = FeatureCorruption(rate=0.5)(x, torch.Generator().manual_seed(0))
    >>> bool(torch.isin(view, x).all()), bool((view % 3 == x % 3).all())
    (True, True)
    >>> view = FeatureCorruption(0.5, groups=[[0, 2]])(x, torch.Generator().manual_seed(0))
    >>> bool((view[:, 2] == view[:, 0] + 2).all())
    True
    """

    def __init__(
        self, rate: float = 0.5, groups: Sequence[Sequence[int]] | str | None = None
    ) -> None:
        self.rate = rate
        self.groups = groups

    @own_context(gradients=False)
    def prepare(self, sample: torch.Tensor) -> FeatureCorruption | BlockCorruption:
        """Return the view for the groups that stand in a sample of scaled rows (n, p).

        Raises
        ------
        ValueError
            If `groups` is another string, holds what is no column, or a column twice, or if rows
            have more than one dimension.
        """
        groups = self.groups
        if groups is None:
            return self
        rate = check_real(self.rate, "augmentation rate", minimum=0, maximum=1)
        if sample.ndim != 2:
            raise ValueError(
                "augmentation groups are groups of columns, and rows here have the shape "
                f"{tuple(sample.shape[1:])}."
            )
        if isinstance(groups, str):
            if groups != "auto":
                raise ValueError(
                    f"augmentation groups={groups!r} is unknown; it takes 'auto', None, or a list "
                    "of lists of column numbers."
                )
            groups = one_hot_blocks(sample)
        return BlockCorruption(rate, groups, sample.shape[1])

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, p)."""
        if self.groups is not None:
            return self.prepare(x)(x, generator)
        rate = check_real(self.rate, "augmentation rate", minimum=0, maximum=1)
        cells = x.flatten(1)
        columns = torch.arange(cells.shape[1], device=x.device)
        mask, rows = _draw(cells, rate, generator, columns, len(columns))
        return torch.where(mask, cells.gather(0, rows), cells).view_as(x)
