"""Invertible maps of d components, as torch modules."""

from __future__ import annotations

from collections.abc import Sequence

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
            Of the dtype of z.
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
            Of the dtype of z.
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

    factor: torch.Tensor

    def __init__(self, n_components: int, factor: float = 1.0) -> None:
        super().__init__(n_components)
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float64))

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        factor = self.factor.to(z.dtype)
        return z / factor, -self.n_components * factor.log() + torch.zeros_like(z[:, 0])

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.factor.to(z.dtype)


class Composed(InvertibleMap):
    """Several maps, one after the other."""

    def __init__(self, maps: Sequence[InvertibleMap]) -> None:
        super().__init__(maps[0].n_components)
        self.maps = nn.ModuleList(maps)

    def parts(self) -> list[InvertibleMap]:
        """Return the maps."""
        return list(self.maps)  # type: ignore[arg-type]  # what a ModuleList holds is any module

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.zeros_like(z[:, 0])
        for part in self.parts():
            z, more = part._run(z, ladj)
            total = total + more
        return z, total

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        for part in reversed(self.parts()):
            z = part.inverse(z)
        return z


class RotatedTables(InvertibleMap):
    r"""Layers :math:`z \mapsto A^\top g(A z)`: orthogonal axes A, an increasing map g of each.

    g is linear between the knots of a table, and a shift beyond them.

    Attributes
    ----------
    turns : Tensor of shape (n_layers + 1, d, d)
        What rows are multiplied by before each layer, and behind the last: the axes of one layer
        undone, and those of the next.
    values : Tensor of shape (n_layers, d, CELLS + 1)
        g at equidistant points from -BOUND to BOUND, increasing.
    """

    turns: torch.Tensor
    values: torch.Tensor

    def __init__(self, n_components: int, n_layers: int) -> None:
        super().__init__(n_components)
        eye = torch.eye(n_components, dtype=torch.float64)
        points = torch.linspace(-BOUND, BOUND, CELLS + 1, dtype=torch.float64)
        self.register_buffer("turns", eye.repeat(n_layers + 1, 1, 1))
        self.register_buffer("values", points.repeat(n_layers, n_components, 1))

    @classmethod
    def of(cls, layers: Sequence[tuple[torch.Tensor, torch.Tensor]], d: int) -> RotatedTables:
        """Return the map of pairs of axes (d, d), one a row, and values (d, CELLS + 1)."""
        made = cls(d, len(layers))
        before = torch.eye(d, dtype=torch.float64)
        for number, (axes, values) in enumerate(layers):
            made.turns[number] = before @ axes.T
            made.values[number] = values
            before = axes
        made.turns[-1] = before
        return made

    def _first_cells(self) -> torch.Tensor:
        device = self.values.device
        return torch.arange(self.n_components, dtype=torch.int64, device=device) * (CELLS + 1)

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        turns, values, first = self.turns.to(z.dtype), self.values.to(z.dtype), self._first_cells()
        per_unit = CELLS / (2 * BOUND)
        log_det = torch.zeros_like(z[:, 0])
        for turn, table in zip(turns[:-1], values.flatten(1), strict=True):
            u = z @ turn
            inside = u.clamp(-BOUND, BOUND)
            position = (inside + BOUND) * per_unit
            cell = position.long().clamp(max=CELLS - 1)
            low = table[cell + first]
            rise = table[cell + first + 1] - low
            z = low + rise * (position - cell) + (u - inside)
            if ladj:
                slopes = torch.where(u == inside, rise * per_unit, 1.0)
                log_det = log_det + slopes.log().sum(1)
        return z @ turns[-1], log_det

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        turns, values, first = self.turns.to(z.dtype), self.values.to(z.dtype), self._first_cells()
        z = z @ turns[-1].T
        for turn, table in zip(turns[:-1].flip(0), values.flip(0), strict=True):
            inside = torch.minimum(torch.maximum(z, table[:, 0]), table[:, -1])
            cell = torch.searchsorted(table, inside.T.contiguous(), right=True).T - 1
            cell = cell.clamp(0, CELLS - 1)
            low = table.flatten()[cell + first]
            rise = table.flatten()[cell + first + 1] - low
            u = (cell + (inside - low) / rise) * (2 * BOUND / CELLS) - BOUND + (z - inside)
            z = u @ turn.T
        return z


class Radial(InvertibleMap):
    r"""Rows moved along their own direction: :math:`z \mapsto g(r) z / r` with :math:`r = |z|`.

    g is linear between the knots of a table, and a shift beyond them.

    Attributes
    ----------
    values : Tensor of shape (CELLS + 1,)
        g at equidistant points from 0 to :math:`\sqrt d` + BOUND, increasing, the first one 0.
    """

    values: torch.Tensor

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components)
        self.end = n_components**0.5 + BOUND
        points = torch.linspace(0, self.end, CELLS + 1, dtype=torch.float64)
        self.register_buffer("values", points)

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        table, per_unit = self.values.to(z.dtype), CELLS / self.end
        # By the largest component first, since the square of a far row overflows.
        far = z.abs().amax(1).clamp(min=1e-30)
        r = (far * (z / far[:, None]).norm(dim=1)).clamp(min=1e-30)
        inside = r.clamp(max=self.end)
        cell = (inside * per_unit).long().clamp(max=CELLS - 1)
        low = table[cell]
        rise = table[cell + 1] - low
        # In the first cell rows are multiplied by a number, the one at 0 too.
        moved = low + rise * (inside * per_unit - cell) + (r - inside)
        stretch = moved / r
        if not ladj:
            return z * stretch[:, None], r
        slope = torch.where(r == inside, rise * per_unit, 1.0)
        return z * stretch[:, None], slope.log() + (self.n_components - 1) * stretch.log()

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        table = self.values.to(z.dtype)
        far = z.abs().amax(1).clamp(min=1e-30)
        r = (far * (z / far[:, None]).norm(dim=1)).clamp(min=1e-30)
        inside = r.clamp(max=float(table[-1]))
        cell = (torch.searchsorted(table, inside, right=True) - 1).clamp(0, CELLS - 1)
        low = table[cell]
        back = (cell + (inside - low) / (table[cell + 1] - low)) * (self.end / CELLS)
        return z * ((back + (r - inside)) / r)[:, None]


class Couplings(InvertibleMap):
    r"""Layers that turn rows, move half of the coordinates by the other half, and turn back.

    With :math:`(a, b) = A z` for orthogonal A, a the first :math:`\lfloor d / 2 \rfloor`
    coordinates, and one hidden layer that gives s and t,

    .. math:: (s, t) = \max(a W + w, 0) V + v, \qquad
              z \mapsto A^\top \bigl( a, \; e^{\tanh s} b + t \bigr)

    where b is scaled within 5 of 0 and shifted beyond.

    Attributes
    ----------
    turns : Tensor of shape (n_layers + 1, d, d)
        As those of `RotatedTables`.
    inner, inner_bias, outer, outer_bias : Tensor of shape (n_layers, ...)
        W, w, V and v.

    References
    ----------
    L. Dinh, J. Sohl-Dickstein, S. Bengio, "Density Estimation Using Real NVP", ICLR 2017,
    arXiv:1605.08803, equations 7 and 8; the rotations in place of masks are those of D. P. Kingma,
    P. Dhariwal, "Glow", NeurIPS 2018, arXiv:1807.03039, section 3.2.
    """

    turns: torch.Tensor
    inner: torch.Tensor
    inner_bias: torch.Tensor
    outer: torch.Tensor
    outer_bias: torch.Tensor

    def __init__(self, n_components: int, n_layers: int) -> None:
        super().__init__(n_components)
        kept, moved = self.halves = [n_components // 2, n_components - n_components // 2]
        eye = torch.eye(n_components, dtype=torch.float64)
        self.register_buffer("turns", eye.repeat(n_layers + 1, 1, 1))
        shapes = {
            "inner": (kept, HIDDEN),
            "inner_bias": (HIDDEN,),
            "outer": (HIDDEN, 2 * moved),
            "outer_bias": (2 * moved,),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(n_layers, *shape, dtype=torch.float64))

    def _move(self, k: int, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log scales and shifts of the other coordinates by layer k."""
        weights = (self.inner, self.inner_bias, self.outer, self.outer_bias)
        inner, bias, outer, last = (part[k].to(a.dtype) for part in weights)
        hidden = torch.addmm(bias, a, inner).relu()
        raw, shift = torch.addmm(last, hidden, outer).chunk(2, dim=1)
        return torch.tanh(raw), shift

    def _run(self, z: torch.Tensor, ladj: bool) -> tuple[torch.Tensor, torch.Tensor]:
        turns = self.turns.to(z.dtype)
        log_det = torch.zeros_like(z[:, self.halves[0] :])
        for k in range(len(self.inner)):
            a, b = (z @ turns[k]).split(self.halves, 1)
            log_scale, shift = self._move(k, a)
            inside = b.clamp(-BOUND, BOUND)
            if ladj:
                log_det = log_det + torch.where(b == inside, log_scale, 0.0)
            z = torch.cat([a, log_scale.exp() * inside + (b - inside) + shift], 1)
        return z @ turns[-1], log_det.sum(1)

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        turns = self.turns.to(z.dtype)
        z = z @ turns[-1].T
        for k in reversed(range(len(self.inner))):
            a, b = z.split(self.halves, 1)
            log_scale, shift = self._move(k, a)
            b = b - shift
            scale = log_scale.exp()
            inside = torch.minimum(torch.maximum(b, -BOUND * scale), BOUND * scale)
            z = torch.cat([a, inside / scale + (b - inside)], 1) @ turns[k].T
        return z
