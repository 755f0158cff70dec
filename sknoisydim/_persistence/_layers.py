"""Torch modules as a tree of named layers, their settings and their tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sknoisydim import _modules, normalization, scaling
from sknoisydim.bounds import DonskerVaradhan
from sknoisydim.critics import _concat, _gaussian, _separable

from ._codec import JSON, Kind, Reader, Unknown, Writer

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks")


class Layer(NamedTuple):
    """How a class of modules is made anew: of children and settings, its tensors come later."""

    kind: type[nn.Module]
    settings: tuple[str, ...]
    make: Callable[[dict[str, Any], dict[str, Any]], nn.Module]


def _plain(kind: type[nn.Module], *settings: str) -> Layer:
    """Describe a module that is made of its children, in order, and nothing else."""
    return Layer(kind, settings, lambda children, values: kind(*children.values()))


def _batch_norm(children: dict[str, Any], values: dict[str, Any]) -> nn.Module:
    tracked = values["track_running_stats"]
    return nn.BatchNorm1d(1, affine=values["affine"], track_running_stats=tracked)


#: The layers that a file can hold, by the name that stands in it: a name is never given up.
LAYERS: Mapping[str, Layer] = {
    "Sequential": Layer(nn.Sequential, (), lambda c, s: nn.Sequential(OrderedDict(c))),
    "Linear": Layer(
        nn.Linear,
        ("in_features", "out_features"),
        lambda c, s: nn.utils.skip_init(nn.Linear, 1, 1),
    ),
    "BatchNorm1d": Layer(
        nn.BatchNorm1d,
        ("num_features", "eps", "momentum", "affine", "track_running_stats"),
        _batch_norm,
    ),
    "LayerNorm": Layer(
        nn.LayerNorm,
        ("normalized_shape", "eps", "elementwise_affine"),
        lambda c, s: nn.LayerNorm(1, elementwise_affine=s["elementwise_affine"]),
    ),
    "Identity": _plain(nn.Identity),
    "ReLU": _plain(nn.ReLU, "inplace"),
    "GELU": _plain(nn.GELU, "approximate"),
    "SiLU": _plain(nn.SiLU, "inplace"),
    "Tanh": _plain(nn.Tanh),
    "ELU": _plain(nn.ELU, "alpha", "inplace"),
    "torch Dropout": _plain(nn.Dropout, "p", "inplace"),
    "Dropout": Layer(_modules.Dropout, ("p", "seed"), lambda c, s: _modules.Dropout(0.0, 0)),
    "Residual": _plain(_modules.Residual),
    "Standardize": Layer(
        scaling.Standardize,
        ("bound",),
        lambda c, s: scaling.Standardize(np.zeros(1), np.ones(1)),
    ),
    "Clip": _plain(scaling.Clip, "limit"),
    "SklearnScaling": Layer(
        scaling.SklearnScaling,
        ("transformer", "limit"),
        lambda c, s: scaling.SklearnScaling(s["transformer"]),
    ),
    "Whitener": Layer(
        normalization._Whitener, ("ridge",), lambda c, s: normalization._Whitener(1, 1.0)
    ),
    "PerComponent": Layer(
        normalization._PerComponent, ("ridge",), lambda c, s: normalization._PerComponent(1, 1.0)
    ),
    "Tower": _plain(_separable._Tower),
    "Separable": Layer(
        _separable._Separable,
        ("temperature",),
        lambda c, s: _separable._Separable(c["view"], c["noisy"], 1.0),
    ),
    "Exact": Layer(_gaussian._Exact, ("channel",), lambda c, s: _gaussian._Exact(s["channel"], 1)),
    "QuadraticRatio": Layer(
        _gaussian.QuadraticRatio,
        ("output", "start"),
        lambda c, s: _gaussian.QuadraticRatio(1, 1.0),
    ),
    "Tempered": Layer(
        _gaussian._Tempered, ("temperature",), lambda c, s: _gaussian._Tempered(c["ratio"], 1.0)
    ),
    "Concat": _plain(_concat._Concat),
    "DonskerVaradhan": _plain(DonskerVaradhan, "decay"),
}
_TAGS = {layer.kind: tag for tag, layer in LAYERS.items()}


def write_tensor(tensor: torch.Tensor, writer: Writer, path: str) -> str:
    """Keep a tensor on the CPU, and return its name.

    Raises
    ------
    Unknown
        If numpy does not have its dtype.
    """
    try:
        return writer.array(tensor.detach().cpu().contiguous().numpy(), path)
    except (RuntimeError, TypeError) as error:
        raise Unknown(f"{path} is a tensor that numpy cannot hold: {error}") from error


def hooked(module: nn.Module) -> bool:
    """Whether somebody hung a function on a module."""
    return any(getattr(module, name, None) for name in _HOOKS)


def _write(module: Any, writer: Writer, path: str) -> JSON:
    tag = _TAGS.get(type(module))
    if tag is None:
        raise Unknown(f"{path} is a {type(module).__module__}.{type(module).__qualname__}")
    if hooked(module):
        raise Unknown(f"{path} has hooks")
    return {
        "layer": tag,
        "training": module.training,
        "settings": {
            name: writer.write(getattr(module, name), f"{path}.{name}")
            for name in LAYERS[tag].settings
        },
        "children": {
            name: _write(child, writer, f"{path}.{name}") for name, child in module._modules.items()
        },
        "parameters": {
            name: value
            if value is None
            else [write_tensor(value, writer, f"{path}.{name}"), value.requires_grad]
            for name, value in module._parameters.items()
        },
        "buffers": {
            name: value if value is None else write_tensor(value, writer, f"{path}.{name}")
            for name, value in module._buffers.items()
        },
    }


def _build(node: JSON, reader: Reader) -> nn.Module:
    """Return the modules, with tensors that mean nothing yet."""
    layer = LAYERS[node["layer"]]
    children = {name: _build(child, reader) for name, child in node["children"].items()}
    settings = {name: reader.read(node["settings"][name]) for name in layer.settings}
    module = layer.make(children, settings)
    for name, value in settings.items():
        setattr(module, name, value)
    module.training = node["training"]
    return module


def _fill(module: nn.Module, node: JSON, reader: Reader) -> None:
    """Put in the tensors, last: some modules set those of their children when they are made."""
    parameters, buffers, children = node["parameters"], node["buffers"], node["children"]
    if (module._parameters.keys(), module._buffers.keys(), module._modules.keys()) != (
        parameters.keys(),
        buffers.keys(),
        children.keys(),
    ):
        raise ValueError(f"a {node['layer']} is not made of {[*parameters, *buffers, *children]}.")
    for name, value in parameters.items():
        module._parameters[name] = None
        if value is not None:
            tensor = torch.from_numpy(reader.array(value[0]))
            module._parameters[name] = nn.Parameter(tensor, requires_grad=value[1])
    for name, value in buffers.items():
        module._buffers[name] = None
        if value is not None:
            module._buffers[name] = torch.from_numpy(reader.array(value))
    for name, child in children.items():
        _fill(module.get_submodule(name), child, reader)
    if isinstance(module, scaling.Standardize):
        # It was made of other numbers than these, and computes as these allow.
        made = scaling.Standardize(module.mean.numpy(), module.scale.numpy())
        module.in_single = made.in_single


def _read(node: JSON, reader: Reader) -> nn.Module:
    module = _build(node, reader)
    _fill(module, node, reader)
    return module


MODULES: Mapping[str, Kind] = {
    "module": Kind(lambda value: isinstance(value, nn.Module), _write, _read)
}
