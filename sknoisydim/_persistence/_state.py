"""A fitted transformer as JSON and arrays, and back; components of the user's own are left out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sknoisydim._inference import Embedder
from sknoisydim._isolation import make_generator
from sknoisydim._net import DIMNet
from sknoisydim._objective import Objective
from sknoisydim.augmentations import resolve_augmentation
from sknoisydim.bounds import resolve_bound
from sknoisydim.critics import resolve_critic
from sknoisydim.encoders import IndicateMissing, resolve_encoder
from sknoisydim.noise import resolve_noise
from sknoisydim.normalization import resolve_normalization
from sknoisydim.scaling import SklearnScaling
from sknoisydim.targets import resolve_target

from ._pack import JSON, Reader, Unknown, Writer

# Fitted attributes that are put together of parts.
ASSEMBLED = ("net_", "encoder_", "refinement_", "target_", "channel_")
# So many columns are believed, whatever the tensors of a file are.
FEW_COLUMNS = 10**5


# Of each part of a fit the parameter that it was made of, and how it is made of what the caller of
# `load` passes for that, and of the parts before it.
MADE: Mapping[str, tuple[str, Callable[[Any, dict[str, Any]], Any]]] = {
    "channel": ("noise", lambda own, p: resolve_noise(own).build(p["d"], p["batch_size_"])),
    "augmentation": ("augmentation", lambda own, p: resolve_augmentation(own)),
    "bound": ("bound", lambda own, p: resolve_bound(own)),
    "critic": ("critic", lambda own, p: resolve_critic(own).build(p["d"], p["channel"], p["rng"])),
    "encoder": ("encoder", lambda own, p: resolve_encoder(own).build(p["width"], p["d"], p["rng"])),
    "normalizer": ("normalization", lambda own, p: resolve_normalization(own).build(p["d"])),
    "scaling": ("scaling", lambda own, p: SklearnScaling(own) if not check_is_fitted(own) else own),
    "target": ("target", lambda own, p: resolve_target(own, p["d"])),
}
EMBEDDER = tuple(inspect.signature(Embedder).parameters)
OBJECTIVE = tuple(inspect.signature(Objective).parameters)


def _parts(estimator: Any) -> dict[str, Any]:
    """Return everything that the fitted attributes are put together of."""
    objective, embedder = estimator.net_.module_, estimator.encoder_
    parts = {name: getattr(objective, name) for name in OBJECTIVE}
    shared = all(parts.get(n, value) is value for n, value in embedder.named_children())
    if not shared or parts["channel"] is not estimator.channel_:
        raise ValueError("encoder_ or channel_ is no longer what was trained.")
    parts |= {name: getattr(embedder, name) for name in (*EMBEDDER, "row_shape", "in_double")}
    parts["width"] = parts["row_shape"] or _width(estimator)
    front = parts["encoder"]
    if isinstance(front, IndicateMissing):
        # The encoder, which may be the user's, by itself; and what is done to missing cells.
        cells = [front.columns, front.fill, getattr(parts["scaling"], "fill", None)]
        parts |= {"encoder": front.encoder, "missing": cells}
    return parts | {"refinement": estimator.refinement_, "target": estimator.target_}


def _width(estimator: Any) -> int:
    """Return the number of columns that the encoder takes."""
    embedder = estimator.encoder_
    row = torch.zeros(1, estimator.n_features_in_, dtype=torch.float32)
    try:
        with torch.no_grad():
            row = embedder.scaling(row)
    except (TypeError, ValueError):  # a transformer of the user's that does not take zeros
        pass
    return row.numel() + len(getattr(embedder.encoder, "columns", ()))


class _Packer(Writer):
    """Leaves out what JSON cannot say: the caller of `load` says which component that is."""

    def put(self, value: Any, path: str, parameter: str = "") -> JSON:
        before = dict(self.arrays)
        try:
            return self.write(value, path)
        except Unknown:
            self.arrays = before
        named = inspect.isclass(value) or inspect.isroutine(value)
        kind = value if named else type(getattr(value, "transformer", value))
        name, state = f"{kind.__module__}.{kind.__qualname__}", None
        try:
            if not parameter:
                raise Unknown(f"{path.rpartition('.')[2]!r} holds a {name}")
            if isinstance(value, nn.Module) and path.startswith("parts."):
                state = self.write(dict(value.state_dict()), path)
        except Unknown as error:
            raise ValueError(
                f"{error}, which a file that is safe to load cannot hold. Pickle the estimator "
                "instead."
            ) from error
        return {"own": {"parameter": parameter, "type": name, "state": state}}


def pack(
    estimator: Any, apart: Collection[str] = ()
) -> tuple[dict[str, JSON], dict[str, np.ndarray]]:
    """Return a fitted estimator as JSON and arrays, without components of the user's own.

    Attributes called as in `apart` are left out; parameters are None.

    Raises
    ------
    ValueError
        If its fitted attributes are not those of a fit, or one can be neither written nor named.
    """
    packer, parameters = _Packer(), estimator.get_params(deep=False)
    parameters |= dict.fromkeys(parameters.keys() & apart)
    rest = (*parameters, *ASSEMBLED, *apart)
    fitted = {name: value for name, value in vars(estimator).items() if name not in rest}
    parts = _parts(estimator).items()
    header = {
        "parameters": {n: packer.put(v, f"parameters.{n}", n) for n, v in parameters.items()},
        "parts": {n: packer.put(v, f"parts.{n}", MADE.get(n, ("",))[0]) for n, v in parts},
        "fitted": {name: packer.put(value, name) for name, value in fitted.items()},
    }
    return header, packer.arrays


def _own(node: JSON) -> JSON:
    return node.get("own") if isinstance(node, dict) else None


def left_out(header: Mapping[str, JSON]) -> dict[str, str]:
    """Return the parameters that are left to the caller of `load`, and what they were."""
    nodes = [*header["parts"].values(), *header["parameters"].values()]
    return {own["parameter"]: own["type"] for own in map(_own, nodes) if own is not None}


def check_named(header: Mapping[str, JSON], named: Mapping[str, Any]) -> None:
    """See that the caller of `load` names what the file leaves out, and nothing else."""
    needed = left_out(header)
    if needed.keys() != named.keys():
        kinds = ", ".join(f"{name}=<{kind}>" for name, kind in needed.items())
        given = ", ".join(f"{name}=..." for name in needed)
        raise ValueError(
            f"the file holds all but {kinds}, as this is not a part of sknoisydim that "
            f"files know: name it, as in load(path, {given}), and nothing else."
            if needed
            else f"the file holds all of its components: load it without {', '.join(named)}."
        )


def unpack(
    header: Mapping[str, JSON], arrays: Mapping[str, np.ndarray], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the attributes of the estimator: the inverse of `pack`.

    `named` are the components that the caller of `load` names.
    """
    reader = Reader(arrays)
    fitted = {name: reader.read(node) for name, node in header["fitted"].items()}
    parts: dict[str, Any] = {**fitted, "d": fitted["n_components_"], "rng": make_generator(0)}
    nodes = header["parts"]
    parts["width"] = reader.read(nodes["width"])
    # Components are made for so many columns: about as many as there are numbers in the file.
    numbers = max(FEW_COLUMNS, sum(array.size for array in arrays.values()))
    for size in (*np.atleast_1d(parts["width"]).tolist(), fitted["n_features_in_"], parts["d"]):
        if type(size) is not int or not 1 <= size <= numbers:
            raise ValueError(f"{size!r} columns are not what its tensors are for.")
    for name in sorted(nodes, key=lambda name: name != "channel"):  # which a critic knows
        own = _own(nodes[name])
        parts[name] = reader.read(nodes[name] if own is None else own["state"])
        if own is not None:
            parts[name] = _made(name, named[own["parameter"]], parts)
    found = {
        name: reader.read(node) if _own(node) is None else named[name]
        for name, node in header["parameters"].items()
    }
    if "scaling" in named:
        found["scaling"] = clone(named["scaling"])
    return found | fitted | _assemble(parts)


def _made(name: str, own: Any, parts: dict[str, Any]) -> Any:
    """Return a part, made of what the caller of `load` names, with the tensors of the file."""
    parameter, make = MADE[name]
    made, state = make(own, parts), parts[name]
    if state is None:
        return made
    try:
        made = copy.deepcopy(made).float()
        made.load_state_dict(state)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"the weights in the file do not fit {parameter}, which has to make what was saved: "
            f"{error}"
        ) from error
    return made


def _assemble(parts: dict[str, Any]) -> dict[str, Any]:
    """Put the fitted attributes together of their parts."""
    if "missing" in parts:
        columns, fill, shown = parts["missing"]
        parts["encoder"] = IndicateMissing(parts["encoder"], columns, fill)
        if shown is not None:
            parts["scaling"].fill = shown
    objective = Objective(**{name: parts[name] for name in OBJECTIVE}).eval()
    embedder = Embedder(**{name: parts[name] for name in EMBEDDER}).eval()
    embedder.row_shape, embedder.in_double = parts["row_shape"], parts["in_double"]
    net = DIMNet.at_rest(objective, parts["history_"], batch_size=parts["batch_size_"])
    found = {f"{name}_": parts[name] for name in ("refinement", "target", "channel")}
    return {"net_": net, "encoder_": embedder, **found}
