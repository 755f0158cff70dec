"""Rows that lie near."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import BaseEstimator, clone

from sknoisydim._context import own_context
from sknoisydim._validation import check_integer, check_real

from ._base import View

# Distances by a matrix product are exact to rounding only: so many candidates beyond those that are
# asked for are looked at again, by subtraction, the row itself and its doubles among them.
_SPARE = 16


class Neighbors(BaseEstimator):
    r"""Take one of the nearest other rows in the place of a row.

    What neighbours have in common is kept, and what tells them apart may be lost. Classifiers on
    the embedding gain or lose by it, table by table.

    Neighbours are looked for among the rows that training shows to a view before it starts, up to
    4,096 of them, by the Euclidean distance of the scaled rows; used by itself, or in a stream
    after its first call, among those of the batch. Rows that are equal are no neighbours, and a row
    with many doubles, `n_neighbors` + 15 or more, stays as it is. A missing cell counts as the
    column's mean in the distance, and a cell that is missing in the neighbour stays as it is. In
    `Compose` it belongs in front: the nearest to a row that another view has changed may be that
    row itself.

    A batch of n rows with p cells takes the distances to the m rows of the sample:
    :math:`2 n m p` operations, and n m numbers of memory. Distances below a ten-thousandth of the
    rows' spread are lost in rounding.

    Parameters
    ----------
    n_neighbors : int, default=10
        How many of the nearest are drawn from, all alike. The larger, the less of a row is left,
        and the more of its group.
    rate : float, default=1.0
        Probability that a row is replaced, in [0, 1].

    References
    ----------
    D. Dwibedi, Y. Aytar, J. Tompson, P. Sermanet, A. Zisserman, "With a Little Help from My
    Friends: Nearest-Neighbor Contrastive Learning of Visual Representations", ICCV 2021, section
    3.2, for neighbours as positives, there in the embedding. In the columns it is ours.

    Examples
    --------
    >>> import torch
    >>> from sknoisydim.augmentations import Neighbors
    >>> x = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
    >>> Neighbors(n_neighbors=1)(x, torch.Generator().manual_seed(0)).flatten().tolist()
    [1.0, 0.0, 12.0, 10.0]
    """

    # A sample of the table, for as long as training lasts: it is rows of the user's.
    _candidates: torch.Tensor | None = None

    def __init__(self, n_neighbors: int = 10, rate: float = 1.0) -> None:
        self.n_neighbors = n_neighbors
        self.rate = rate

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {**super().__getstate__()}
        state.pop("_candidates", None)
        return state

    def prepare(self, sample: torch.Tensor) -> View:
        """Return the view that looks for neighbours in a sample of scaled rows (m, ...)."""
        ready: Neighbors = clone(self)
        ready._candidates = sample
        return ready

    def release(self) -> None:
        """Release the sample: from now on the batch itself is searched."""
        self._candidates = None

    @own_context(gradients=False)
    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of the rows x (n, ...)."""
        count = check_integer(self.n_neighbors, "augmentation n_neighbors", minimum=1)
        rate = check_real(self.rate, "augmentation rate", minimum=0, maximum=1)
        candidates = x if self._candidates is None else self._candidates.to(x.device)
        distance, near = _nearest(x.flatten(1), candidates.flatten(1), count)
        found = distance.isfinite().sum(1)
        # In float64, where no draw is rounded up to 1.
        shape = (2, len(x))
        replaced, chosen = torch.rand(
            shape, generator=generator, device=x.device, dtype=torch.float64
        )
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
