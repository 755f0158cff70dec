"""Refinements that are numpy maps, in torch. One that is an `nn.Module` needs nothing of this."""

from __future__ import annotations

import contextlib
import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from .._modules import Float64
from ._base import Composed, Identity, Scale
from ._coupling import ARRAYS, CouplingMap, couple
from ._flow import FlowMap
from ._rotation import RotationMap


class Rotation(Float64):
    """`RotationMap`, all columns of a layer at once.

    Parameters
    ----------
    fitted : RotationMap
    """

    axes: torch.Tensor
    edges: torch.Tensor
    table: torch.Tensor

    def __init__(self, fitted: RotationMap) -> None:
        super().__init__()
        x, y, slopes = (
            np.stack([getattr(splines, name) for _, splines in fitted.layers])
            for name in ("x", "y", "slopes")
        )
        # What describes a segment, together: one look-up for each coordinate of a layer.
        width, height = np.diff(x), np.diff(y)
        columns = [x[..., :-1], width, y[..., :-1], height, slopes[..., :-1], slopes[..., 1:]]
        self.register_buffer("axes", torch.tensor(np.stack([axes for axes, _ in fitted.layers])))
        self.register_buffer("edges", torch.tensor(x))
        self.register_buffer("table", torch.tensor(np.stack(columns, axis=-1)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = z.to(torch.float64)
        layers = (self.axes, self.edges, self.table)
        if _exporting():
            return self._scan(z, layers)
        for layer in zip(*layers, strict=True):
            z = self._layer(z, *layer)
        return z

    def _scan(self, z: torch.Tensor, layers: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Loop inside the graph: some hundred layers one after the other take minutes to export."""
        from torch._higher_order_ops.scan import scan

        def step(z: torch.Tensor, layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
            moved = self._layer(z, *layer)
            return moved, moved.sum().reshape(1)  # a scan has to collect something

        refined: torch.Tensor = scan(step, z, layers)[0]
        return refined

    @staticmethod
    def _layer(
        z: torch.Tensor, axes: torch.Tensor, edges: torch.Tensor, table: torch.Tensor
    ) -> torch.Tensor:
        u = z @ axes.T
        inside = torch.minimum(torch.maximum(u, edges[:, 0]), edges[:, -1])
        segment = (inside[:, :, None] >= edges[:, 1:-1]).sum(2)
        columns = torch.arange(z.shape[1], device=z.device)
        low, width, base, height, a, b = table[columns, segment].unbind(2)
        s, xi = height / width, (inside - low) / width
        across = xi * (1 - xi)
        rise = height * (s * xi**2 + a * across) / (s + (a + b - 2 * s) * across)
        return (base + rise + (u - inside)) @ axes


def _exporting() -> bool:
    """Whether torch.export is at work, in a torch that can export a loop."""
    with contextlib.suppress(ImportError, AttributeError):
        import torch._higher_order_ops.scan

        return bool(torch.compiler.is_exporting())
    return False


class Coupled(Float64):
    """`CouplingMap`, with its gradients.

    Parameters
    ----------
    fitted : CouplingMap
    """

    def __init__(self, fitted: CouplingMap) -> None:
        super().__init__()
        for name, array in zip(ARRAYS, fitted.arrays, strict=True):
            self.register_buffer(name, torch.tensor(np.asarray(array, np.float64)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return couple(z.to(torch.float64), [getattr(self, name) for name in ARRAYS])[0]


class Flow(nn.Module):
    """`FlowMap`, with its gradients.

    Parameters
    ----------
    transform : nn.Module
        zuko's.
    """

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        self.transform.double()
        return self

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = self.transform()(z.to(torch.float64))
        return moved


class Quotient(Float64):
    """`Scale`.

    Parameters
    ----------
    fitted : Scale
    """

    factor: torch.Tensor

    def __init__(self, fitted: Scale) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(fitted.factor, dtype=torch.float64))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z / self.factor


def refinement_module(fitted: Any) -> nn.Module:
    """Return the torch module of a fitted refinement, which shares nothing with it.

    Raises
    ------
    ValueError
        If it has none.
    """
    if isinstance(fitted, nn.Module):
        return copy.deepcopy(fitted)
    if fitted is None or type(fitted) is Identity:
        return nn.Identity()
    if type(fitted) is RotationMap:
        return Rotation(fitted) if fitted.layers else nn.Identity()
    if type(fitted) is CouplingMap:
        return Coupled(fitted)
    if type(fitted) is FlowMap:
        return Flow(copy.deepcopy(fitted.transform))
    if type(fitted) is Scale:
        return Quotient(fitted)
    if type(fitted) is Composed:
        return nn.Sequential(*map(refinement_module, fitted.maps))
    raise ValueError(f"the refinement {type(fitted).__name__} has no form in torch.")
