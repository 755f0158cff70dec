"""Views: how a batch of rows becomes a batch of their views.

A view is a callable `(batch, generator) -> batch` on float32 tensors (n, ...) of scaled rows. One
that has to know the table has a method `prepare`: given a sample of scaled rows, before training,
it returns the callable that is used in its place. If that keeps rows of the sample, it has a method
`release`, which is called when training ends. With `missing="indicator"` missing cells are NaN, in
batches as in the sample, and a view may leave, fill or make them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import betaincinv
from sklearn.base import BaseEstimator, clone

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer, check_name, check_real, resolve

__all__ = [
    "AUGMENTATIONS",
    "Compose",
    "FeatureCorruption",
    "FeatureMasking",
    "GaussianJitter",
    "Mixup",
    "Neighbors",
]

View = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def _rate(value: float) -> float:
    return check_real(value, "augmentation rate", minimum=0, maximum=1)


def has_missing(x: torch.Tensor) -> bool:
    """Tell whether a cell is NaN; the sum does not overflow, since scaling bounds cells."""
    return bool(x.sum().isnan())


class _View(BaseEstimator):
    """What the views of this module have in common."""

    def prepare(self, sample: torch.Tensor) -> View:
        """Return the view for a table.

        Parameters
        ----------
        sample : Tensor of shape (n, ...)
            Scaled rows of the table.

        Returns
        -------
        view : callable
            (batch, generator) -> batch: the object itself, if it need not know the table.

        Raises
        ------
        TypeError, ValueError
            If a parameter is not valid.
        """
        return self


class FeatureMasking(_View):
    """Replace random cells, missing ones too, by zero: the mean where `scaling` centres columns.

    Parameters
    ----------
    rate : float, default=0.3
        Probability that a cell is masked, in [0, 1].
    """

    def __init__(self, rate: float = 0.3) -> None:
        self.rate = rate

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        u = torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32)
        return x.masked_fill(u < _rate(self.rate), 0.0)


class GaussianJitter(_View):
    """Add normal noise to every cell; missing ones stay missing.

    Parameters
    ----------
    scale : float, default=0.3
        Standard deviation of the noise, in units of the scaled columns.
    """

    def __init__(self, scale: float = 0.3) -> None:
        self.scale = scale

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        scale = check_real(self.scale, "augmentation scale", minimum=0)
        noise = torch.empty_like(x).normal_(generator=generator)
        return torch.add(x, noise, alpha=scale)


class Mixup(_View):
    r"""Mix each row with a random one of the batch (Zhang et al., ICLR 2018, section 2).

    .. math:: x' = \lambda x + (1 - \lambda) x_{\text{other}}, \qquad
        \lambda = \max(b, 1 - b), \quad b \sim \operatorname{Beta}(\alpha, \alpha)

    The larger share is the row's own. A cell that is missing in either row stays as it is.

    Parameters
    ----------
    alpha : float, default=0.4
        :math:`\alpha` > 0. The smaller, the closer views stay to their rows.
    """

    def __init__(self, alpha: float = 0.4) -> None:
        self.alpha = alpha

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        others = x[torch.randint(len(x), (len(x),), generator=generator, device=x.device)]
        alpha = check_real(self.alpha, "augmentation alpha", minimum=0, closed="neither")
        u = torch.rand(len(x), generator=generator, device=x.device, dtype=torch.float32)
        # torch draws beta variates from its global generator alone. The distribution is symmetric,
        # so its upper half is that of the larger share.
        share = betaincinv(alpha, alpha, 0.5 + 0.5 * u.double().cpu().numpy())
        weight = torch.as_tensor(share).to(x).view(-1, *[1] * (x.ndim - 1))
        mixed = torch.lerp(others, x, weight)
        return torch.where(mixed.isnan(), x, mixed) if has_missing(x) else mixed


@own_context(gradients=False)
def one_hot_blocks(x: torch.Tensor) -> list[list[int]]:
    """Return the blocks of adjacent columns of scaled rows (n, p) that look like one-hot codes.

    Each column of a block has two values (any two: scaling moves 0 and 1), and in every row one
    column alone has its larger value, or none where a cell of the block is missing (NaN). Inside a
    block a column may have one value only: a level that the sample happens not to show.
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

    grouped = True  # of those that were saved when there were no others

    def __init__(self, rate: float, groups: Sequence[Sequence[int]], n_columns: int) -> None:
        self.rate = rate
        self.unit = torch.full((n_columns,), -1)
        for number, group in enumerate(groups):
            columns = np.array(list(group))
            if columns.dtype.kind not in "iu" or not np.isin(columns, np.arange(n_columns)).all():
                raise ValueError(
                    f"augmentation groups must hold column numbers from 0 to {n_columns - 1}, got "
                    f"{list(group)}."
                )
            if (self.unit[columns] >= 0).any() or len(np.unique(columns)) < len(columns):
                raise ValueError(
                    f"augmentation groups must not share a column, and {list(group)} does."
                )
            self.unit[columns] = number
        alone = self.unit < 0
        self.unit[alone] = torch.arange(int(alone.sum())) + len(groups)
        self.n_units = int(alone.sum()) + len(groups)
        self.grouped = len(groups) > 0

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        cells, unit = x.flatten(1), self.unit.to(x.device)
        mask, rows = self._draw(cells, unit, generator)
        if self.grouped:
            mask, rows = mask[:, unit], rows[:, unit]
        return torch.where(mask, cells.gather(0, rows), cells).view_as(x)

    def _draw(
        self, x: torch.Tensor, unit: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw which units (n, n_units) are replaced, and from which rows that have them."""
        shape, device = (len(x), self.n_units), x.device
        u = torch.rand(shape, generator=generator, device=device, dtype=torch.float32)
        mask = u < self.rate
        if not has_missing(x):
            return mask, torch.randint(len(x), shape, generator=generator, device=device)
        missing = torch.zeros(shape, device=device, dtype=torch.float32)
        gaps = missing.index_add_(1, unit, x.isnan().float()) > 0
        count = (~gaps).sum(0)
        # In float64, where no draw is rounded up to 1.
        u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        observed_first = gaps.to(torch.uint8).argsort(dim=0, stable=True)
        return mask & (count > 0), observed_first.gather(0, (u * count).long())


class FeatureCorruption(_View):
    """Replace random cells by the same column's value in a random row of the batch.

    A corrupted cell follows the column's marginal distribution (SCARF: Bahri et al., ICLR 2022,
    section 3). Columns of a group, such as a one-hot block, are replaced together, from one row in
    which all of them are observed; without any in the batch they stay as they are.

    Parameters
    ----------
    rate : float, default=0.5
        Probability that a cell, or a group, is replaced, in [0, 1].
    groups : None, "auto" or list of lists of int, default=None
        Columns that are replaced as one, by number; columns in no group stand for themselves.
        "auto" finds one-hot blocks, also scaled ones, in a sample of the rows.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import FeatureCorruption
    >>> x = torch.arange(12.0).reshape(4, 3)
    >>> view = FeatureCorruption(0.5, groups=[[0, 2]])(x, torch.Generator().manual_seed(0))
    >>> bool(torch.isin(view, x).all()), bool((view[:, 2] == view[:, 0] + 2).all())
    (True, True)
    """

    def __init__(
        self, rate: float = 0.5, groups: Sequence[Sequence[int]] | str | None = None
    ) -> None:
        self.rate = rate
        self.groups = groups

    @own_context(gradients=False)
    def prepare(self, sample: torch.Tensor) -> BlockCorruption:
        groups = () if self.groups is None else self.groups
        if self.groups is not None and sample.ndim != 2:
            raise ValueError(
                "augmentation groups are groups of columns, and rows here have the shape "
                f"{tuple(sample.shape[1:])}."
            )
        if isinstance(groups, str):
            also = ["None", "a list of lists of column numbers"]
            check_name(groups, {"auto": one_hot_blocks}, "augmentation groups", also)
            groups = one_hot_blocks(sample)
        return BlockCorruption(_rate(self.rate), groups, sample[0].numel())

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.prepare(x)(x, generator)


# Distances by a matrix product are inexact: so many more candidates than are asked for, the row
# itself and its doubles among them, are looked at again, by subtraction.
_SPARE = 16


class Neighbors(_View):
    """Take one of the nearest other rows in the place of a row.

    What neighbours have in common is kept, and what tells them apart may be lost (Dwibedi et al.,
    ICCV 2021, section 3.2, take neighbours in the embedding).

    Neighbours are looked for by the Euclidean distance of the scaled rows, among up to 4,096 rows
    of the table; used by itself, or in a stream after its first call, among those of the batch.
    Rows that are equal are no neighbours, and a row with `n_neighbors` + 15 doubles stays as it is.
    A missing cell counts as the column's mean, and a cell that is missing in the neighbour stays as
    it is. In `Compose` it belongs in front: the nearest to a changed row may be that row itself.

    Parameters
    ----------
    n_neighbors : int, default=10
        How many of the nearest are drawn from, all alike.
    rate : float, default=1.0
        Probability that a row is replaced, in [0, 1].

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import Neighbors
    >>> x = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    >>> Neighbors(n_neighbors=1)(x, torch.Generator().manual_seed(0)).flatten().tolist()
    [1.0, 0.0, 12.0, 10.0]
    """

    _candidates: torch.Tensor | None = None  # rows of the user's, while training lasts

    def __init__(self, n_neighbors: int = 10, rate: float = 1.0) -> None:
        self.n_neighbors = n_neighbors
        self.rate = rate

    def __getstate__(self) -> dict[str, object]:
        state: dict[str, Any] = {**super().__getstate__()}
        state.pop("_candidates", None)
        return state

    def prepare(self, sample: torch.Tensor) -> View:
        ready: Neighbors = clone(self)
        ready._candidates = sample
        return ready

    def release(self) -> None:
        """Release the sample: from now on the batch itself is searched."""
        self._candidates = None

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count = check_integer(self.n_neighbors, "augmentation n_neighbors", minimum=1)
        rate = _rate(self.rate)
        candidates = x if self._candidates is None else self._candidates.to(x.device)
        distance, near = _nearest(x.flatten(1), candidates.flatten(1), count)
        found = distance.isfinite().sum(1)
        # In float64, where no draw is rounded up to 1.
        u = torch.rand(2, len(x), generator=generator, device=x.device, dtype=torch.float64)
        replaced, chosen = u
        position = (chosen * found).long()[:, None]
        partners = candidates[near.gather(1, position)[:, 0]]
        keep = ((replaced >= rate) | (found == 0)).view(-1, *[1] * (x.ndim - 1))
        return torch.where(keep | partners.isnan(), x, partners)


def _nearest(
    x: torch.Tensor, candidates: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return squared distances (n, k) and positions (n, k) of the nearest other candidates.

    Those of rows that are equal are infinite. A missing cell counts as the candidates' mean.
    """
    centre = candidates.nanmean(0)
    a, b = (x - centre).nan_to_num(0.0), (candidates - centre).nan_to_num(0.0)
    roughly = torch.addmm(b.square().sum(1), a, b.T, alpha=-2)
    near = roughly.topk(min(count + _SPARE, len(b)), largest=False).indices
    # One column of positions after the other: all at once would be n k p numbers.
    distance = torch.stack([(b[rows] - a).square().sum(1) for rows in near.unbind(1)], 1)
    distance.masked_fill_(distance == 0, torch.inf)
    distance, order = distance.topk(min(count, len(b)), largest=False)
    return distance, near.gather(1, order)


class Chain:
    def __init__(self, views: Sequence[View]) -> None:
        self.views = views

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        for view in self.views:
            x = view(x, generator)
        return x

    def release(self) -> None:
        for view in self.views:
            getattr(view, "release", lambda: None)()


class Compose(_View):
    """Several views, one after the other.

    Parameters
    ----------
    views : sequence
        Of what `augmentation` takes: names, objects of this module, callables.
    """

    def __init__(self, views: Sequence[object]) -> None:
        self.views = views

    def prepare(self, sample: torch.Tensor) -> View:
        return Chain([prepare_view(resolve_augmentation(view), sample) for view in self.views])

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return Chain([resolve_augmentation(view) for view in self.views])(x, generator)


def identity(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the rows themselves: what `augmentation=None` means."""
    return x


AUGMENTATIONS: Mapping[str, type] = {
    "corruption": FeatureCorruption,
    "jitter": GaussianJitter,
    "masking": FeatureMasking,
    "mixup": Mixup,
    "neighbors": Neighbors,
}


def prepare_view(view: View, sample: torch.Tensor) -> View:
    """Return the view for a table: what its `prepare` makes, or itself where it has none."""
    prepare = getattr(view, "prepare", None)
    return view if prepare is None else prepare(sample)


def resolve_augmentation(augmentation: object) -> View:
    """Return the view that a value of the parameter `augmentation` stands for."""
    if augmentation is None:
        return identity
    also = ["None", "a callable (batch, generator) -> batch"]
    view: View = resolve(augmentation, AUGMENTATIONS, "augmentation", method="__call__", also=also)
    return view
