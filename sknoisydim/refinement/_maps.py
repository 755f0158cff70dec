"""Invertible maps of d components, as torch modules."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

# Beyond this distance from 0 a coordinate is shifted: a far row moves by a bounded distance, and no
# number of layers makes a finite row infinite. Cells of a table between these two ends.
BOUND, CELLS = 5.0, 128
Pair = tuple[Tensor, Tensor]


class InvertibleMap(nn.Module):
    """Base class of fitted refinements, and the identity: it maps rows (n, d) closer to N(0, I).

    Rows are tensors of float32 or float64, and are mapped in their own dtype; finite ones stay
    finite. A subclass has `_run` and `inverse`.

    Parameters
    ----------
    n_components : int
        Number d of components.
    """

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.n_components = n_components

    def _run(self, z: Tensor, ladj: bool) -> Pair:
        """Return mapped rows (n, d), and `log_abs_det` of each (n,), or anything without `ladj`."""
        return z, torch.zeros_like(z[:, 0])

    def inverse(self, z: Tensor) -> Tensor:
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

    def forward(self, z: Tensor) -> Tensor:
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

    def call_and_ladj(self, z: Tensor) -> Pair:
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

    def log_abs_det(self, z: Tensor) -> Tensor:
        """Return the log of the absolute Jacobian determinant at each row, in nats.

        Parameters
        ----------
        z : Tensor of shape (n, d)
            Embeddings.

        Returns
        -------
        log_det : Tensor of shape (n,)
        """
        return self._run(z, True)[1]


class Scale(InvertibleMap):
    """Division by one number."""

    def __init__(self, n_components: int, factor: float) -> None:
        super().__init__(n_components)
        self.factor = nn.Buffer(torch.tensor(factor, dtype=torch.float64))

    def _run(self, z: Tensor, ladj: bool) -> Pair:
        factor = self.factor.to(z.dtype)
        return z / factor, -self.n_components * factor.log() + torch.zeros_like(z[:, 0])

    def inverse(self, z: Tensor) -> Tensor:
        return z * self.factor.to(z.dtype)


class Composed(InvertibleMap):
    """Several maps, one after the other."""

    def __init__(self, maps: Sequence[InvertibleMap]) -> None:
        super().__init__(maps[0].n_components)
        self.maps: Any = nn.ModuleList(maps)

    def _run(self, z: Tensor, ladj: bool) -> Pair:
        total = torch.zeros_like(z[:, 0])
        for part in self.maps:
            z, more = part._run(z, ladj)
            total = total + more
        return z, total

    def inverse(self, z: Tensor) -> Tensor:
        for part in reversed(self.maps):
            z = part.inverse(z)
        return z


def interpolate(x: Tensor, tables: Tensor, start: float, end: float, slopes: bool) -> Pair:
    """Return g(x) (n, d), and g'(x), or anything without `slopes`.

    Of each column, g is linear between the values of `tables` (d, CELLS + 1) at equidistant points
    from `start` to `end`, and a shift beyond.
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
    y: Tensor, tables: Tensor, start: float = -BOUND, end: float = BOUND
) -> Tensor:
    """Return x (n, d) such that g(x) is y, with g as of `interpolate`, and increasing."""
    inside = torch.minimum(torch.maximum(y, tables[:, 0]), tables[:, -1])
    cell = torch.searchsorted(tables, inside.T.contiguous(), right=True).T - 1
    cell = cell.clamp(0, CELLS - 1)
    low = tables.T.gather(0, cell)
    rise = tables.T.gather(0, cell + 1) - low
    return (cell + (inside - low) / rise) * ((end - start) / CELLS) + start + (y - inside)


class Layers(InvertibleMap):
    """Layers that turn rows to orthogonal axes, `move` them, and turn them back.

    Rows are multiplied by `turns` (n_layers + 1, d, d) before each layer and behind the last: the
    axes of one undone, and those of the next. A subclass has `move`, `move_back`, and the `names`
    of their weights, each for all layers.
    """

    names: ClassVar[tuple[str, ...]]
    move: Any
    move_back: Any

    def __init__(self, turns: Tensor, *weights: Tensor) -> None:
        super().__init__(turns.shape[-1])
        for name, tensor in zip(("turns", *self.names), (turns, *weights), strict=True):
            self.register_buffer(name, tensor)

    def _run(self, z: Tensor, ladj: bool) -> Pair:
        turns, *weights = (tensor.to(z.dtype) for tensor in self.buffers())
        log_det = torch.zeros_like(z[:, :1])
        for turn, *layer in zip(turns[:-1], *weights, strict=True):
            z, more = self.move(z @ turn, ladj, *layer)
            log_det = log_det + more if ladj else log_det
        return z @ turns[-1], log_det.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        turns, *weights = (tensor.to(z.dtype) for tensor in self.buffers())
        z = z @ turns[-1].T
        for turn, *layer in reversed(list(zip(turns[:-1], *weights, strict=True))):
            z = self.move_back(z, *layer) @ turn.T
        return z


class RotatedTables(Layers):
    """Layers that move each coordinate by a table: its `values` (d, CELLS + 1) within BOUND."""

    names = ("values",)
    move_back = staticmethod(interpolate_inverse)

    def move(self, u: Tensor, ladj: bool, tables: Tensor) -> Pair:
        u, slopes = interpolate(u, tables, -BOUND, BOUND, ladj)
        return u, slopes.log().sum(1, keepdim=True) if ladj else u


class Radial(InvertibleMap):
    r"""Rows moved along their own direction: :math:`z \mapsto g(r) z / r` with :math:`r = |z|`.

    `values` (CELLS + 1,) are g between 0 and :math:`\sqrt d` + BOUND, the first one 0.
    """

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components)
        self.end = n_components**0.5 + BOUND
        self.values = nn.Buffer(torch.linspace(0, self.end, CELLS + 1, dtype=torch.float64))

    def _norms(self, z: Tensor) -> Tensor:
        # By the largest component first, since the square of a far row overflows.
        far = z.abs().amax(1, keepdim=True).clamp(min=1e-30)
        return (far * (z / far).norm(dim=1, keepdim=True)).clamp(min=1e-30)

    def _run(self, z: Tensor, ladj: bool) -> Pair:
        r = self._norms(z)
        moved, slope = interpolate(r, self.values.to(z.dtype)[None], 0, self.end, True)
        # In the first cell rows are multiplied by a number, the one at 0 too.
        stretch = moved / r
        log_det = slope.log() + (self.n_components - 1) * stretch.log()
        return z * stretch, log_det[:, 0]

    def inverse(self, z: Tensor) -> Tensor:
        r = self._norms(z)
        return z * (interpolate_inverse(r, self.values.to(z.dtype)[None], 0, self.end) / r)


class Couplings(Layers):
    r"""Layers that move half of the coordinates by the other half.

    With a the first :math:`\lfloor d / 2 \rfloor` coordinates and b the others, and one hidden
    layer that gives s and t,

    .. math:: (s, t) = \max(a W + w, 0) V + v, \qquad (a, b) \mapsto (a, \; e^{\tanh s} b + t)

    where b is scaled within 5 of 0 and shifted beyond. Sources: Real NVP, arXiv:1605.08803,
    equations 7 and 8; rotations in place of masks, Glow, arXiv:1807.03039, section 3.2.
    """

    names = ("inner", "inner_bias", "outer", "outer_bias")

    def split(self, u: Tensor, *layer: Tensor) -> tuple[Tensor, ...]:
        """Return a, b, log scales and shifts."""
        inner, inner_bias, outer, outer_bias = layer
        a, b = u.tensor_split([u.shape[1] // 2], 1)
        hidden = torch.addmm(inner_bias, a, inner).relu()
        raw, shift = torch.addmm(outer_bias, hidden, outer).chunk(2, dim=1)
        return a, b, torch.tanh(raw), shift

    def move(self, u: Tensor, ladj: bool, *layer: Tensor) -> Pair:
        a, b, log_scale, shift = self.split(u, *layer)
        inside = b.clamp(-BOUND, BOUND)
        moved = torch.cat([a, log_scale.exp() * inside + (b - inside) + shift], 1)
        return moved, torch.where(b == inside, log_scale, 0.0) if ladj else b

    def move_back(self, u: Tensor, *layer: Tensor) -> Tensor:
        a, b, log_scale, shift = self.split(u, *layer)
        b, scale = b - shift, log_scale.exp()
        inside = torch.minimum(torch.maximum(b, -BOUND * scale), BOUND * scale)
        return torch.cat([a, inside / scale + (b - inside)], 1)
