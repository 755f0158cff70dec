"""Invertible maps of d components, as torch modules."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

# Beyond this distance from 0 a coordinate is shifted: a far row moves by a bounded distance, and no
# number of layers makes a finite row infinite.
BOUND = 5.0
# Cells of a table between -BOUND and BOUND.
CELLS = 128
# Units of the hidden layer of a coupling.
HIDDEN = 64


class InvertibleMap(nn.Module):
    """Base class of fitted refinements, and the identity.

    Rows (n, d) are tensors of float32 or float64, and are mapped in their own dtype. A subclass has
    `_run` and `inverse`.

    Parameters
    ----------
    n_components : int
        Number d of components.
    """

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.n_components = n_components

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mapped rows (n, d), and `log_abs_det` of each (n,), or anything without `ladj`."""
        return z, torch.zeros_like(z[:, 0])

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """Return the rows that are mapped to given ones.

        Parameters
        ----------
        z : Tensor of shape (n, d)
            Mapped rows.

        Returns
        -------
        rows : Tensor of shape (n, d)
        """
        return z

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return mapped rows, closer to N(0, I); finite rows stay finite.

        Parameters
        ----------
        z : Tensor of shape (n, d)
            Embeddings.

        Returns
        -------
        moved : Tensor of shape (n, d)
        """
        return self._run(z, False)[0]

    def call_and_ladj(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mapped rows, and `log_abs_det` of each.

        Parameters
        ----------
        z : Tensor of shape (n, d)
            Embeddings.

        Returns
        -------
        moved, log_det : Tensor of shape (n, d), Tensor of shape (n,)
            As of `forward` and `log_abs_det`.
        """
        return self._run(z, True)

    def log_abs_det(self, z: torch.Tensor) -> torch.Tensor:
        """Return the log of the absolute Jacobian determinant at each row.

        Parameters
        ----------
        z : Tensor of shape (n, d)
            Embeddings.

        Returns
        -------
        log_det : Tensor of shape (n,)
            In nats.
        """
        return self._run(z, True)[1]


class Scale(InvertibleMap):
    """Division by one number."""

    def __init__(self, n_components: int, factor: float) -> None:
        super().__init__(n_components)
        self.factor = nn.Buffer(torch.tensor(factor, dtype=torch.float64))

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        factor = self.factor.to(z.dtype)
        return z / factor, -self.n_components * factor.log() + torch.zeros_like(z[:, 0])

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.factor.to(z.dtype)


class Composed(InvertibleMap):
    """Several maps, one after the other."""

    def __init__(self, maps: Sequence[InvertibleMap]) -> None:
        super().__init__(maps[0].n_components)
        self.maps: Any = nn.ModuleList(maps)

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.zeros_like(z[:, 0])
        for part in self.maps:
            z, more = part._run(z, ladj)
            total = total + more
        return z, total

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        for part in reversed(self.maps):
            z = part.inverse(z)
        return z


def interpolate(
    tables: torch.Tensor, x: torch.Tensor, start: float, end: float, slopes: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return g(x) (n, d), and g'(x), or anything without `slopes`.

    `tables` (d, CELLS + 1) hold g of each column at equidistant points from `start` to `end`. It is
    linear between these, and a shift beyond.
    """
    per_unit = CELLS / (end - start)
    inside = x.clamp(start, end)
    position = (inside - start) * per_unit
    cell = position.long().clamp(max=CELLS - 1)
    low = tables.T.gather(0, cell)
    rise = tables.T.gather(0, cell + 1) - low
    y = low + rise * (position - cell) + (x - inside)
    return y, torch.where(x == inside, rise * per_unit, 1.0) if slopes else y


def interpolate_inverse(
    tables: torch.Tensor, y: torch.Tensor, start: float, end: float
) -> torch.Tensor:
    """Return x (n, d) such that g(x) is y, with g as of `interpolate`, and increasing."""
    inside = torch.minimum(torch.maximum(y, tables[:, 0]), tables[:, -1])
    cell = torch.searchsorted(tables, inside.T.contiguous(), right=True).T - 1
    cell = cell.clamp(0, CELLS - 1)
    low = tables.T.gather(0, cell)
    rise = tables.T.gather(0, cell + 1) - low
    return (cell + (inside - low) / rise) * ((end - start) / CELLS) + start + (y - inside)


class RotatedTables(InvertibleMap):
    r"""Layers :math:`z \mapsto A^\top g(A z)`: orthogonal axes A, and a map g of each coordinate.

    `layers` are pairs of A (d, d), with an axis in each row, and the tables (d, CELLS + 1) of g
    between -BOUND and BOUND. Rows are multiplied by `turns` (n_layers + 1, d, d) before each layer
    and behind the last: the axes of one undone, and those of the next.
    """

    def __init__(
        self, n_components: int, layers: Sequence[tuple[torch.Tensor, torch.Tensor]]
    ) -> None:
        super().__init__(n_components)
        eye = torch.eye(n_components, dtype=torch.float64)
        axes = [eye, *(axes for axes, _ in layers), eye]
        tables = [tables for _, tables in layers]
        self.turns = nn.Buffer(torch.stack([last @ to.T for last, to in pairwise(axes)]))
        self.values = nn.Buffer(torch.stack(tables) if tables else eye[:0])

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        turns = self.turns.to(z.dtype)
        log_det = torch.zeros_like(z[:, 0])
        for turn, tables in zip(turns[:-1], self.values.to(z.dtype), strict=True):
            z, slopes = interpolate(tables, z @ turn, -BOUND, BOUND, ladj)
            if ladj:
                log_det = log_det + slopes.log().sum(1)
        return z @ turns[-1], log_det

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        turns, values = self.turns.to(z.dtype), self.values.to(z.dtype)
        z = z @ turns[-1].T
        for turn, tables in zip(turns[:-1].flip(0), values.flip(0), strict=True):
            z = interpolate_inverse(tables, z, -BOUND, BOUND) @ turn.T
        return z


class Radial(InvertibleMap):
    r"""Rows moved along their own direction: :math:`z \mapsto g(r) z / r` with :math:`r = |z|`.

    `values` (CELLS + 1,) are g between 0 and :math:`\sqrt d` + BOUND, the first one 0.
    """

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components)
        self.end = n_components**0.5 + BOUND
        points = torch.linspace(0, self.end, CELLS + 1, dtype=torch.float64)
        self.values = nn.Buffer(points)

    def _norms(self, z: torch.Tensor) -> torch.Tensor:
        # By the largest component first, since the square of a far row overflows.
        far = z.abs().amax(1, keepdim=True).clamp(min=1e-30)
        return (far * (z / far).norm(dim=1, keepdim=True)).clamp(min=1e-30)

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        r = self._norms(z)
        moved, slope = interpolate(self.values.to(z.dtype)[None], r, 0, self.end, ladj)
        # In the first cell rows are multiplied by a number, the one at 0 too.
        stretch = moved / r
        if not ladj:
            return z * stretch, r
        log_det = slope.log() + (self.n_components - 1) * stretch.log()
        return z * stretch, log_det[:, 0]

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        r = self._norms(z)
        return z * (interpolate_inverse(self.values.to(z.dtype)[None], r, 0, self.end) / r)


def move(a: torch.Tensor, *layer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log scales and shifts of the other coordinates by a layer of `Couplings`."""
    inner, inner_bias, outer, outer_bias = layer
    hidden = torch.addmm(inner_bias, a, inner).relu()
    raw, shift = torch.addmm(outer_bias, hidden, outer).chunk(2, dim=1)
    return torch.tanh(raw), shift


def couple(
    z: torch.Tensor, turns: torch.Tensor, weights: Sequence[torch.Tensor], ladj: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows (n, d) mapped as `Couplings` says, and log determinants of each, or anything."""
    d = turns.shape[-1]
    log_det = torch.zeros_like(z[:, d // 2 :])
    for turn, *layer in zip(turns[:-1], *weights, strict=True):
        a, b = (z @ turn).tensor_split([d // 2], 1)
        log_scale, shift = move(a, *layer)
        inside = b.clamp(-BOUND, BOUND)
        if ladj:
            log_det = log_det + torch.where(b == inside, log_scale, 0.0)
        z = torch.cat([a, log_scale.exp() * inside + (b - inside) + shift], 1)
    return z @ turns[-1], log_det.sum(1)


class Couplings(InvertibleMap):
    r"""Layers that turn rows, move half of the coordinates by the other half, and turn back.

    With :math:`(a, b) = A z` for orthogonal A, a the first :math:`\lfloor d / 2 \rfloor`
    coordinates, and one hidden layer that gives s and t,

    .. math:: (s, t) = \max(a W + w, 0) V + v, \qquad
              z \mapsto A^\top \bigl( a, \; e^{\tanh s} b + t \bigr)

    where b is scaled within 5 of 0 and shifted beyond. `turns` are as those of `RotatedTables`;
    `weights` are W, w, V and v, each for all layers. Sources: Real NVP, arXiv:1605.08803, equations
    7 and 8; rotations in place of masks, Glow, arXiv:1807.03039, section 3.2.
    """

    def __init__(self, turns: torch.Tensor, weights: Sequence[torch.Tensor]) -> None:
        super().__init__(turns.shape[-1])
        self.turns = nn.Buffer(turns)
        self.inner, self.inner_bias, self.outer, self.outer_bias = map(nn.Buffer, weights)

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        turns, *weights = (tensor.to(z.dtype) for tensor in self.buffers())
        return couple(z, turns, weights, ladj)

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        turns, *weights = (tensor.to(z.dtype) for tensor in self.buffers())
        z = z @ turns[-1].T
        for turn, *layer in reversed(list(zip(turns[:-1], *weights, strict=True))):
            a, b = z.tensor_split([self.n_components // 2], 1)
            log_scale, shift = move(a, *layer)
            b = b - shift
            scale = log_scale.exp()
            inside = torch.minimum(torch.maximum(b, -BOUND * scale), BOUND * scale)
            z = torch.cat([a, inside / scale + (b - inside)], 1) @ turn.T
        return z
