"""A fitted transformer as JSON and arrays, and back."""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from sknoisydim._inference import Embedder
from sknoisydim._isolation import make_generator
from sknoisydim._net import DIMNet
from sknoisydim._objective import Objective
from sknoisydim.encoders import IndicateMissing

from ._codec import JSON, Kind, Reader, Unknown, Writer
from ._fittings import FITTINGS
from ._layers import MODULES, hooked, write_tensor
from ._names import NAMES

KINDS: Mapping[str, Kind] = {**NAMES, **FITTINGS, **MODULES}

# The parameter that each part of a fit was made of.
MADE_OF = {
    "augmentation": "augmentation",
    "bound": "bound",
    "channel": "noise",
    "critic": "critic",
    "encoder": "encoder",
    "normalizer": "normalization",
    "optimizer": "optimizer",
    "refinement": "refine",
    "scaling": "scaling",
    "target": "target",
}
# Fitted attributes that are put together of parts.
ASSEMBLED = ("net_", "encoder_", "refinement_", "target_", "channel_")
# Callbacks of scikit-learn, which `set_callbacks` sets and which belong to a session.
SESSION = "_skl_callbacks"
# The part that says what is done to missing cells, where any may be.
MISSING = "missing"
# A parameter that belongs to a machine: nobody's file says where `fit` writes.
PLACE = "checkpoint"
# So many columns are believed, whatever the tensors of a file are.
FEW_COLUMNS = 10**5
# What the net was trained with, beside its module.
TRAINING = ("n_steps", "max_epochs", "batch_size", "lr")


class SavedNet(DIMNet):
    """A net at rest: its optimizer is made when training goes on.

    It has no state to come back to, and the first optimizer of a process makes torch import its
    compiler, which takes a second or two.
    """

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> DIMNet:
        """Make the optimizer, unless the net is being restored."""
        if self.initialized_:
            return super().initialize_optimizer(*args, **kwargs)
        self.optimizer_ = None
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> DIMNet:
        """Train on X."""
        if self.optimizer_ is None:
            self._initialize_optimizer()
        return super().partial_fit(X, y, classes, **fit_params)


def _arguments(kind: type) -> list[str]:
    return list(inspect.signature(kind).parameters)


def _parts(estimator: Any) -> dict[str, Any]:
    """Return everything that the fitted attributes are put together of."""
    objective, embedder = estimator.net_.module_, estimator.encoder_
    parts = {name: getattr(embedder, name) for name in _arguments(Embedder)}
    parts |= {name: getattr(objective, name) for name in _arguments(Objective)}
    shared = all(getattr(embedder, name) is parts[name] for name in _arguments(Embedder))
    if not shared or parts["channel"] is not estimator.channel_:
        raise ValueError("encoder_ or channel_ is no longer what was trained.")
    front = parts["encoder"]
    if isinstance(front, IndicateMissing):
        # The encoder, which may be the user's, by itself; and what is done to missing cells.
        cells = [front.columns.cpu().numpy(), front.fill.cpu().numpy()]
        fill = getattr(parts["scaling"], "fill", None)
        parts |= {"encoder": front.encoder, MISSING: [*cells, fill]}
    return parts | {
        "optimizer": estimator.net_.optimizer,
        "refinement": estimator.refinement_,
        "target": estimator.target_,
    }


class _Packer:
    """Write values, and do with those that JSON cannot say what the caller wants."""

    def __init__(self, instead: Callable[[Any, str, str, _Packer], JSON]) -> None:
        self.instead = instead
        self.writer = Writer(KINDS)
        self.objects: dict[str, Any] = {}

    def put(self, value: Any, path: str, parameter: str = "") -> JSON:
        before = dict(self.writer.arrays)
        try:
            return self.writer.write(value, path)
        except Unknown:
            self.writer.arrays = before
            return self.instead(value, path, parameter, self)


def _keep(value: Any, path: str, parameter: str, packer: _Packer) -> JSON:
    """Carry the object itself along, off the GPU: a pickle takes any."""
    if isinstance(value, nn.Module):
        tensors = [*value.parameters(), *value.buffers()]
        if any(tensor.device.type != "cpu" for tensor in tensors):
            value = copy.deepcopy(value).cpu()
    packer.objects[path] = value
    return {"is": "object", "of": path}


def _leave(value: Any, path: str, parameter: str, packer: _Packer) -> JSON:
    """Leave it to whoever loads the file, and keep its tensors."""
    kind: Any = type(getattr(value, "transformer", value))
    if inspect.isclass(value) or inspect.isroutine(value):
        kind = value
    name = f"{kind.__module__}.{kind.__qualname__}"
    if not parameter or path == "parts.refinement":
        raise ValueError(
            f"{path.rpartition('.')[2]!r} holds a {name}, which a file that is safe to load cannot "
            "hold. Pickle the estimator instead."
        )
    state = {}
    if isinstance(value, nn.Module) and not path.startswith("parameters."):
        for key, tensor in value.state_dict().items():
            if not isinstance(tensor, torch.Tensor):
                raise ValueError(
                    f"{path} has a state {key!r} that is no tensor: pickle it instead."
                )
            state[key] = write_tensor(tensor, packer.writer, f"{path}.{key}")
    own: dict[str, JSON] = {"parameter": parameter, "type": name, "state": state}
    if state and name.startswith("sknoisydim.") and not any(map(hooked, value.modules())):
        own["made"] = True  # by a component of ours that has no layer of its own
    return {"is": "own", "of": own}


def _pack(estimator: Any, packer: _Packer) -> dict[str, JSON]:
    parameters = estimator.get_params(deep=False)
    net = estimator.net_
    training = {name: getattr(net, name) for name in (*TRAINING, "step_")}
    training["arguments"] = {k: v for k, v in vars(net).items() if k.startswith("optimizer__")}
    embedding = {
        k: v for k, v in vars(estimator.encoder_).items() if k[0] != "_" and k != "training"
    }
    rest = {k: v for k, v in vars(estimator).items() if k not in parameters and k not in ASSEMBLED}
    if packer.instead is _leave:
        rest.pop(SESSION, None)
        parameters[PLACE] = None
    return {
        "parameters": {
            name: packer.put(value, f"parameters.{name}", name)
            for name, value in parameters.items()
        },
        "parts": {
            name: packer.put(value, f"parts.{name}", MADE_OF.get(name, ""))
            for name, value in _parts(estimator).items()
        },
        "training": packer.put(training, "training"),
        "embedding": packer.put(embedding, "embedding"),
        "fitted": {name: packer.put(value, name) for name, value in rest.items()},
        "width": _scaled_width(estimator),
    }


def _scaled_width(estimator: Any) -> int:
    """Return how many columns the encoder takes, for encoders that have to be made anew."""
    try:
        with torch.no_grad():
            row = torch.zeros(1, estimator.n_features_in_, dtype=torch.float32)
            return int(estimator.encoder_.scaling(row)[0].numel())
    except (TypeError, ValueError):  # a transformer of the user's that does not take zeros
        return int(estimator.n_features_in_)


def _row_shape(width: int, fitted: Any, embedding: Any) -> tuple[int, ...] | None:
    """Return the shape of a row that the encoder takes, where it has more dimensions than one.

    Raises
    ------
    ValueError
        If it is none, or not one for so many columns.
    """
    shape: Any = embedding.get("row_shape")
    seen = fitted.get("row_shape_", (fitted["n_features_in_"],))
    if seen != (shape or (fitted["n_features_in_"],)):
        raise ValueError(f"its rows have the shape {seen!r}, and its encoder takes {shape!r}.")
    if shape is None:
        return None
    whole = type(shape) is tuple and all(type(size) is int and size >= 1 for size in shape)
    if not whole or len(shape) < 2 or math.prod(shape) != width:
        raise ValueError(f"{shape!r} is no shape of a row of {width} cells.")
    return tuple(shape)


def _missing_cells(cells: Any, width: int) -> Any:
    """Return what is done to missing cells: columns to show, and what they are filled with.

    Raises
    ------
    ValueError
        If it does not fit rows of so many cells.
    """
    if cells is None:
        return None
    columns, *fills = cells
    shown = columns.dtype == np.int64 and columns.ndim == 1 and (np.diff(columns) > 0).all()
    if not shown or ((columns < 0) | (columns >= width)).any():
        raise ValueError(f"{columns!r} are no columns of {width}.")
    if len(fills) != 2 or fills[0].dtype != np.float32:
        raise ValueError("what missing cells are filled with is no row.")
    for fill in fills:
        if fill is not None and not (fill.shape == (width,) and np.isfinite(fill).all()):
            raise ValueError(f"missing cells are filled with {fill!r}, no row of {width} numbers.")
    return cells


def to_state(estimator: Any) -> dict[str, Any]:
    """Return the state of a fitted estimator that a pickle carries.

    Raises
    ------
    ValueError
        If its fitted attributes are not those of a fit.
    """
    packer = _Packer(_keep)
    header = json.dumps(_pack(estimator, packer))
    return {"header": header, "arrays": packer.writer.arrays, "objects": packer.objects}


def to_file(estimator: Any) -> tuple[dict[str, JSON], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file.

    Raises
    ------
    ValueError
        If it holds what neither the file can hold nor the caller of `load` can name.
    """
    packer = _Packer(_leave)
    return _pack(estimator, packer), packer.writer.arrays


def restore(
    header: Mapping[str, JSON],
    arrays: Mapping[str, np.ndarray],
    objects: Mapping[str, Any],
    build: Callable[[str, JSON, dict[str, Any]], Any],
) -> dict[str, Any]:
    """Return the attributes of the estimator.

    Parameters
    ----------
    header : dict
        From `to_state` or `to_file`.
    arrays : dict of str to ndarray
    objects : dict
        What was carried along as it is.
    build : callable
        (part or parameter, what the header says of it, what is there) -> what was left to the
        caller of `load`.
    """
    kept = Kind(_never, _unwritten, lambda node, reader: objects[node])
    reader = Reader({**KINDS, "object": kept}, arrays)

    def read(name: str, node: JSON, there: dict[str, Any]) -> Any:
        if isinstance(node, dict) and node["is"] == "own":
            return build(name, node["of"], there)
        return reader.read(node)

    found = {name: read(name, n, {}) for name, n in header["parameters"].items()}
    fitted = {name: reader.read(node) for name, node in header["fitted"].items()}
    # Components are made for so many columns: about as many as there are numbers in the file.
    numbers = max(FEW_COLUMNS, sum(array.size for array in arrays.values()))
    for size in (header["width"], fitted["n_components_"]):
        if type(size) is not int or not 1 <= size <= numbers:
            raise ValueError(f"{size!r} columns are not what its tensors are for.")
    training, embedding = reader.read(header["training"]), reader.read(header["embedding"])
    shape = _row_shape(header["width"], fitted, embedding)
    cells = _missing_cells(reader.read(header["parts"].get(MISSING)), header["width"])
    # What an encoder is made for, beside the rest.
    inputs = shape or header["width"] + (0 if cells is None else len(cells[0]))
    parts: dict[str, Any] = {**fitted, "inputs": inputs, "arrays": reader}
    # Critics know the channel, so it comes first.
    for name in sorted(header["parts"], key=lambda name: name != "channel"):
        parts[name] = read(f"parts.{name}", header["parts"][name], parts)
    if cells is not None:
        parts["encoder"] = IndicateMissing(parts["encoder"], *map(torch.from_numpy, cells[:2]))
        if cells[2] is not None:
            parts["scaling"].fill = cells[2]
    return found | fitted | _assemble(parts, training, embedding)


def _assemble(
    parts: dict[str, Any], training: dict[str, Any], embedding: dict[str, Any]
) -> dict[str, Any]:
    """Put the fitted attributes together of their parts."""
    # Files of before say another thing by it, or nothing; training sets these anew.
    parts.setdefault("linear_weights", ())
    parts.setdefault("match_weight", 0.0)
    objective = Objective(**{name: parts[name] for name in _arguments(Objective)}).eval()
    embedder = Embedder(**{name: parts[name] for name in _arguments(Embedder)}).eval()
    for name, value in embedding.items():
        setattr(embedder, name, value)
    target = parts["target"]
    if not hasattr(target, "n_components_"):
        target = target.bind(parts["n_components_"])
    net = SavedNet(
        objective,
        generator=make_generator(0),
        optimizer=parts["optimizer"],
        **{name: training[name] for name in TRAINING},
    ).initialize()
    # After `initialize`, to which these say nothing while there is no optimizer.
    arguments = training["arguments"].items()
    vars(net).update({name: v for name, v in arguments if name.startswith("optimizer__")})
    net.step_ = training["step_"]
    columns = parts["history_"]
    for row in zip(*columns.values(), strict=True):
        net.history.new_epoch()
        for name, value in zip(columns, row, strict=True):
            net.history.record(name, value)
    return {
        "net_": net,
        "encoder_": embedder,
        "refinement_": parts["refinement"],
        "target_": target,
        "channel_": parts["channel"],
    }


def _never(value: Any) -> bool:
    return False


def _unwritten(value: Any, writer: Writer, path: str) -> JSON:
    raise Unknown(path)
