"""Kinds that a fit leaves behind and that are no torch modules: channels, views, maps, scalers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn import preprocessing

from sknoisydim._validation import check_real
from sknoisydim.augmentations._corruption import BlockCorruption
from sknoisydim.augmentations._table import Chain
from sknoisydim.noise import GaussianChannel, UniformChannel
from sknoisydim.refinement import FlowRefinement
from sknoisydim.refinement._base import Composed, Identity, Scale
from sknoisydim.refinement._coupling import ARRAYS, CouplingMap
from sknoisydim.refinement._flow import FlowMap
from sknoisydim.refinement._rotation import RotationMap
from sknoisydim.refinement._spline import Splines

from ._codec import JSON, Kind, Reader, Unknown, Writer
from ._layers import write_tensor

#: scikit-learn's scalers whose whole state is numbers and arrays.
SCALERS = {
    kind.__name__: kind
    for kind in (
        preprocessing.MaxAbsScaler,
        preprocessing.MinMaxScaler,
        preprocessing.Normalizer,
        preprocessing.PowerTransformer,
        preprocessing.QuantileTransformer,
        preprocessing.RobustScaler,
        preprocessing.StandardScaler,
    )
}


def _write_scaler(value: Any, writer: Writer, path: str) -> JSON:
    state = {name: writer.write(item, f"{path}.{name}") for name, item in vars(value).items()}
    return [type(value).__name__, state]


def _read_scaler(node: JSON, reader: Reader) -> Any:
    scaler = SCALERS[node[0]]()
    scaler.__dict__.update({name: reader.read(item) for name, item in node[1].items()})
    return scaler


def _write_blocks(value: Any, writer: Writer, path: str) -> JSON:
    return [value.rate, value.n_units, write_tensor(value.unit, writer, f"{path}.unit")]


def _read_blocks(node: JSON, reader: Reader) -> Any:
    view = BlockCorruption(node[0], [], 0)
    view.n_units = node[1]
    view.unit = torch.from_numpy(reader.array(node[2]))
    return view


def _read_scale(node: JSON, reader: Reader) -> Any:
    return Scale(node[0], check_real(node[1], "a scale", minimum=0, closed="neither"))


_SPLINE = ("x", "y", "slopes")


def _write_rotation(value: Any, writer: Writer, path: str) -> JSON:
    if not value.layers:
        return [value.n_components, {}]
    # Layers by the hundred, all of one shape: four arrays instead of four each.
    stacks = {"axes": np.stack([axes for axes, _ in value.layers])}
    for name in _SPLINE:
        stacks[name] = np.stack([getattr(splines, name) for _, splines in value.layers])
    named = {name: writer.array(stack, f"{path}.{name}") for name, stack in stacks.items()}
    return [value.n_components, named]


def _read_rotation(node: JSON, reader: Reader) -> Any:
    d, named = node
    if not named:
        return RotationMap(d, [])
    axes, *knots = (reader.array(named[name]) for name in ("axes", *_SPLINE))
    layers = [(a, Splines(*parts)) for a, *parts in zip(axes, *knots, strict=True)]
    return RotationMap(d, layers)


def _write_couplings(value: Any, writer: Writer, path: str) -> JSON:
    named = zip(ARRAYS, value.arrays, strict=True)
    return {name: writer.array(array, f"{path}.{name}") for name, array in named}


def _read_couplings(node: JSON, reader: Reader) -> Any:
    return CouplingMap(*(reader.array(node[name]) for name in ARRAYS))


def _flow_settings(d: int, transform: Any) -> dict[str, int]:
    """Return what `FlowRefinement` made a transform with."""
    parts = list(transform.transforms)
    if d == 1:
        return {"transforms": len(parts), "hidden": 1, "bins": parts[0].phi[0].shape[-1]}
    first, last = parts[0].hyper[0], parts[0].hyper[-1]
    bins = (last.out_features // d + 1) // 3
    return {"transforms": len(parts), "hidden": first.out_features, "bins": bins}


def _write_flow(value: Any, writer: Writer, path: str) -> JSON:
    try:
        settings = _flow_settings(value.n_components, value.transform)
    except (AttributeError, IndexError, TypeError) as error:
        raise Unknown(f"{path} is a flow that FlowRefinement did not make") from error
    state = value.transform.state_dict()
    named = {name: write_tensor(tensor, writer, f"{path}.{name}") for name, tensor in state.items()}
    return [value.n_components, settings, named]


def _read_flow(node: JSON, reader: Reader) -> Any:
    d, settings, named = node
    state = {name: torch.from_numpy(reader.array(array)) for name, array in named.items()}
    # Before anything of that size is made: what a file says of sizes its tensors have to show.
    hidden, outputs = settings["hidden"], d * (3 * settings["bins"] - 1)
    least = outputs if d == 1 else d * hidden + hidden**2 + hidden * outputs
    if settings["transforms"] * least > sum(tensor.numel() for tensor in state.values()):
        raise ValueError("a flow is larger than its tensors.")
    transform = FlowRefinement(**settings)._flow(d, 0).double().eval().requires_grad_(False)
    transform.load_state_dict(state)
    return FlowMap(d, transform)


FITTINGS: Mapping[str, Kind] = {
    "scaler": Kind(lambda value: type(value) in SCALERS.values(), _write_scaler, _read_scaler),
    "channel": Kind(
        lambda value: type(value) is GaussianChannel,
        lambda value, writer, path: [value.n_components, float(value.scale)],
        lambda node, reader: GaussianChannel(*node),
    ),
    "uniform channel": Kind(
        lambda value: type(value) is UniformChannel,
        lambda value, writer, path: [value.n_components, float(value.half_width)],
        lambda node, reader: UniformChannel(*node),
    ),
    "blocks": Kind(lambda value: type(value) is BlockCorruption, _write_blocks, _read_blocks),
    "chain": Kind(
        lambda value: type(value) is Chain,
        lambda value, writer, path: writer.write(list(value.views), path),
        lambda node, reader: Chain(reader.read(node)),
    ),
    "identity": Kind(
        lambda value: type(value) is Identity,
        lambda value, writer, path: value.n_components,
        lambda node, reader: Identity(node),
    ),
    "composed": Kind(
        lambda value: type(value) is Composed,
        lambda value, writer, path: writer.write(list(value.maps), path),
        lambda node, reader: Composed(reader.read(node)),
    ),
    "scale": Kind(
        lambda value: type(value) is Scale,
        lambda value, writer, path: [value.n_components, value.factor],
        _read_scale,
    ),
    "rotation": Kind(lambda value: type(value) is RotationMap, _write_rotation, _read_rotation),
    "couplings": Kind(lambda value: type(value) is CouplingMap, _write_couplings, _read_couplings),
    "flow": Kind(lambda value: type(value) is FlowMap, _write_flow, _read_flow),
}
