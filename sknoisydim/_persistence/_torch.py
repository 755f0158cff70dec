"""A fitted transformer as one plain torch module, with nothing of scikit-learn or numpy in it."""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import QuantileTransformer
from torch import nn

from sknoisydim._context import own_forward
from sknoisydim._inference import for_inference
from sknoisydim.encoders import IndicateMissing
from sknoisydim.refinement._base import Composed, Identity, Scale
from sknoisydim.refinement._coupling import ARRAYS, CouplingMap, couple
from sknoisydim.refinement._flow import FlowMap
from sknoisydim.refinement._rotation import RotationMap
from sknoisydim.scaling import SklearnScaling, Standardize
from sknoisydim.targets import MultivariateNormal, Normal, Uniform

from ._quantiles import NormalScores


class Served(nn.Module):
    """Raw rows (n, p) -> embeddings (n, d): scaling, network, refinement and target in turn.

    Parameters
    ----------
    scaling, network, refinement, target : nn.Module
    row_shape : tuple of int or None, default=None
        Shape of a row, where it has more dimensions than one: its cells are scaled as columns.
    missing : bool, default=False
        Whether cells may be missing, and the network takes NaN for them.
    """

    unit: torch.Tensor

    def __init__(
        self,
        scaling: nn.Module,
        network: nn.Module,
        refinement: nn.Module,
        target: nn.Module,
        row_shape: tuple[int, ...] | None = None,
        missing: bool = False,
    ) -> None:
        super().__init__()
        self.row_shape = row_shape
        self.missing = missing
        self.scaling = scaling
        self.network = network
        self.refinement = refinement
        self.target = target
        # Follows `double()` and the like: what the network computes in.
        self.register_buffer("unit", torch.ones((), dtype=torch.float32))

    @own_forward
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.missing:
            # Around the scaling: what a runtime's minimum or comparison makes of NaN is its own.
            gone = x.isnan()
            scaled = self.scaling(x.masked_fill(gone, 0.0)).masked_fill(gone, torch.nan)
        elif self.row_shape is None:
            scaled = self.scaling(x)
        else:
            scaled = self.scaling(x.flatten(1)).unflatten(1, self.row_shape)
        z = self.network(scaled.to(self.unit.dtype))
        # onnxruntime has no erf for float64.
        z = self.refinement(z).to(self.unit.dtype)
        return self.target(z).to(self.unit.dtype)


class _Double(nn.Module):
    """Has float64 tensors, and keeps them when the module around is made float32."""

    def keep(self, **arrays: np.ndarray) -> None:
        """Register arrays as tensors."""
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(array, dtype=np.float64)))

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            moved = self._buffers[name]
            if tensor is not None and moved is not None:
                self._buffers[name] = tensor.to(moved.device)
        return self


class Standard(_Double):
    """`Standardize`, with its gradients: the same steps, none of them in place.

    Parameters
    ----------
    fitted : Standardize
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, fitted: Standardize) -> None:
        super().__init__()
        self.bound = fitted.bound
        self.in_single = fitted.in_single
        self.keep(mean=fitted.mean.numpy(), scale=fitted.scale.numpy())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.scale if self.bound is None else self.scale * self.bound
        if x.dtype == torch.float32 and self.in_single:
            mean = self.mean.float()
            rest = (self.mean - mean).float()
            v = (x - mean - rest) * scale.reciprocal().float()
        else:
            v = ((x.to(torch.float64) - self.mean) / scale).to(x.dtype)
        if self.bound is None:
            return v.clamp(-1e6, 1e6)
        v = v.clamp(-1e15, 1e15)
        return v * torch.rsqrt(v.square() + 1) * self.bound


class Rotation(_Double):
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
        self.keep(
            axes=np.stack([axes for axes, _ in fitted.layers]),
            edges=x,
            table=np.stack(columns, axis=-1),
        )

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


class Coupled(_Double):
    """`CouplingMap`, with its gradients.

    Parameters
    ----------
    fitted : CouplingMap
    """

    def __init__(self, fitted: CouplingMap) -> None:
        super().__init__()
        self.keep(**dict(zip(ARRAYS, fitted.arrays, strict=True)))

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


class Quotient(_Double):
    """`Scale`.

    Parameters
    ----------
    fitted : Scale
    """

    factor: torch.Tensor

    def __init__(self, fitted: Scale) -> None:
        super().__init__()
        self.keep(factor=np.asarray(fitted.factor))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z / self.factor


class Box(_Double):
    """`Uniform`: the distribution function of N(0, 1), to 1e-7 in float32, stretched.

    Parameters
    ----------
    bound : Uniform
    """

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, bound: Uniform) -> None:
        super().__init__()
        self.keep(low=bound.low_, high=bound.high_)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        # erf is what ONNX has. The sum with 1 costs the digits of a tail, which is 1e-7 at most.
        share = 0.5 * (1 + torch.erf(z * math.sqrt(0.5))).to(torch.float64)
        return torch.minimum(self.low + (self.high - self.low) * share, self.high)


class Linear(_Double):
    """`MultivariateNormal`: a mean and a triangular factor.

    Parameters
    ----------
    bound : MultivariateNormal
    """

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(self, bound: MultivariateNormal) -> None:
        super().__init__()
        self.keep(mean=bound.mean_, factor=bound.factor_)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.mean + z.to(torch.float64) @ self.factor.T


def _refinement(fitted: Any) -> nn.Module:
    if fitted is None or type(fitted) is Identity:
        return nn.Identity()
    if type(fitted) is RotationMap:
        return Rotation(fitted) if fitted.layers else nn.Identity()
    if type(fitted) is CouplingMap:
        return Coupled(fitted)
    if type(fitted) is FlowMap:
        return Flow(fitted.transform)
    if type(fitted) is Scale:
        return Quotient(fitted)
    if type(fitted) is Composed:
        return nn.Sequential(*map(_refinement, fitted.maps))
    raise ValueError(f"the refinement {type(fitted).__name__} has no form in torch.")


def _target(bound: Any) -> nn.Module:
    if type(bound) is Normal:
        return nn.Identity()
    if type(bound) is Uniform:
        return Box(bound)
    if type(bound) is MultivariateNormal:
        return Linear(bound)
    raise ValueError(
        f"the target {bound!r} has no form in torch; 'normal', 'uniform', Uniform and "
        "MultivariateNormal have. With target=False the module returns the embedding close to "
        "N(0, I), and model.target_.push maps it to the target."
    )


def _scaling(module: nn.Module) -> nn.Module:
    if type(module) is Standardize:
        return Standard(module)
    if type(module) is not SklearnScaling:
        return module
    transformer = module.transformer
    if type(transformer) is QuantileTransformer and transformer.output_distribution == "normal":
        return NormalScores(transformer)
    raise ValueError(
        f"scaling={transformer!r} has no form in torch; 'squash', 'standard', 'quantile' and None "
        "have. Put your transformer into a Pipeline before this one, and set scaling=None or "
        "another of these."
    )


def to_module(estimator: Any, target: bool) -> Served:
    """Return the module of a fitted transformer.

    Raises
    ------
    ValueError
        If a part of it has no form in torch.
    """
    embedder = estimator.encoder_
    scaling = _scaling(embedder.scaling)
    cpu = torch.device("cpu")
    network = list(for_inference(embedder, np.dtype(np.float32), cpu).children())[-1]
    served = Served(
        scaling,
        network,
        _refinement(estimator.refinement_),
        _target(estimator.target_) if target else nn.Identity(),
        embedder.row_shape,
        isinstance(embedder.encoder, IndicateMissing),
    )
    # A copy, to share nothing with the estimator.
    return copy.deepcopy(served).eval().requires_grad_(False)
