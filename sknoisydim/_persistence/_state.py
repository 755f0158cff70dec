"""A fitted transformer as JSON and arrays, and back; components of the user's own are left out.

Nothing runs, and only objects of known classes are made: an object is its class, by name, and its
attributes.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn import preprocessing
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sknoisydim import augmentations, bounds
from sknoisydim._model import Embedder
from sknoisydim._modules import make_generator
from sknoisydim._net._skorch import DIMNet
from sknoisydim._objective import Objective
from sknoisydim.augmentations import resolve_augmentation
from sknoisydim.bounds import resolve_bound
from sknoisydim.critics import resolve_critic
from sknoisydim.encoders import IndicateMissing, resolve_encoder
from sknoisydim.noise import resolve_noise
from sknoisydim.normalization import resolve_normalization
from sknoisydim.scaling import SklearnScaling
from sknoisydim.targets import resolve_target

JSON = Any

# Where classes come from whose objects a file can hold.
MODULES = (
    *("_decoder", "_modules", "augmentations", "bounds", "critics", "encoders", "noise"),
    *("normalization", "refinement", "scaling", "targets"),
)
SCALERS = (
    *("MaxAbsScaler", "MinMaxScaler", "Normalizer", "PowerTransformer", "QuantileTransformer"),
    *("RobustScaler", "StandardScaler"),
)
# What a module is made of; of the rest of an empty one, hooks and the like, nothing may be in use.
PARTS = {"training", "_parameters", "_buffers", "_modules"}
EMPTY = vars(nn.Module())

_Frozen = type(stats.norm())
_MultivariateNormal = type(stats.multivariate_normal([0.0], [[1.0]]))
# Classes of the newer generation's distributions; and a function that makes one.
CALLED = {
    name: getattr(stats, name)
    for name in ("Normal", "Uniform", "multivariate_normal")
    if hasattr(stats, name)
}


class Unknown(Exception):
    """A value that JSON and arrays cannot say."""


def _is_a(value: object, kind: type) -> bool:
    return inspect.isclass(value) and issubclass(value, kind)


@functools.cache
def known() -> Mapping[str, Any]:
    """Return the classes whose objects are written attribute by attribute, by name."""
    found: dict[str, Any] = {
        f"torch.{name}": kind
        for name, kind in vars(nn).items()
        if _is_a(kind, nn.Module) and kind.__module__.startswith("torch.nn.modules.")
    }
    found |= {f"sklearn.{name}": getattr(preprocessing, name) for name in SCALERS}
    for name, module in list(sys.modules.items()):
        package, _, rest = name.partition(".")
        module_name = rest.partition(".")[0]
        if package == "sknoisydim" and module_name in MODULES:
            classes = [kind for kind in vars(module).values() if inspect.isclass(kind)]
            found |= {f"{module_name}.{c.__qualname__}": c for c in classes if c.__module__ == name}
    return found


@functools.cache
def named() -> Mapping[str, Any]:
    """Return what a name alone says: classes and functions of ours, dtypes, optimizers of torch."""
    found = {name: kind for name, kind in known().items() if _is_a(kind, BaseEstimator)}
    functions: list[Any] = [augmentations.identity, bounds.dv, *bounds.BOUNDS.values()]
    found |= {f"bounds.{value.__name__}": value for value in functions}
    for name, value in [*vars(torch.optim).items(), *vars(torch).items()]:
        if isinstance(value, torch.dtype) or _is_a(value, torch.optim.Optimizer):
            found[f"torch.{name}"] = value
    return found


@functools.cache
def _names(table: Callable[[], Mapping[str, Any]]) -> Mapping[Any, str]:
    return {value: name for name, value in table().items()}


class Writer:
    """Turn values into JSON, and collect their arrays, each named by the path of its value."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def write(self, value: Any, path: str) -> JSON:
        """Return JSON for a value; raises Unknown if it is, or holds, what cannot be said."""
        kind = type(value)
        if value is None or kind in (bool, int) or (kind is float and np.isfinite(value)):
            return value
        if isinstance(value, str):
            return str(value)
        if kind in (list, tuple):
            items = [self.write(item, f"{path}.{i}") for i, item in enumerate(value)]
            return items if kind is list else {"tuple": items}
        if kind in (dict, OrderedDict):
            pairs = value.items()
            return {"dict": [[self.write(k, path), self.write(v, f"{path}.{k}")] for k, v in pairs]}
        if kind is float or isinstance(value, torch.device):
            return {kind.__name__: str(value)}
        if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
            return self._array(value, path)
        if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, torch.dtype):
            if value in _names(named):
                return {"name": _names(named)[value]}
        elif kind in _names(known):
            return {"object": [_names(known)[kind], self.write(self._state(value, path), path)]}
        elif kind is np.random.RandomState:
            return {"random": self.write(list(value.get_state(legacy=True)), path)}
        else:
            return {"distribution": self._distribution(value, path)}
        raise Unknown(f"{path} is {value!r}")

    def _array(self, value: Any, path: str) -> JSON:
        if isinstance(value, torch.Tensor):
            how: Any = [isinstance(value, nn.Parameter), value.requires_grad]
            try:
                value = value.detach().cpu().numpy()
            except TypeError as error:
                raise Unknown(f"{path}: {error}") from error
        elif value.dtype == object and all(isinstance(item, str) for item in value.flat):
            return {"strings": [str(item) for item in value]}
        else:  # the last bits of a matrix product depend on the layout, so it is kept
            how = ["S" if isinstance(value, np.generic) else "F" if value.flags.fnc else "C"]
            value = np.asarray(value, dtype=value.dtype.newbyteorder("="))
        if value.dtype.kind not in "fiub" or value.dtype.itemsize > 8:
            raise Unknown(f"{path} is an array of {value.dtype}")
        while path in self.arrays:
            path += "'"
        self.arrays[path] = value
        return {"tensor" if len(how) == 2 else "array": [path, *how]}

    def _state(self, value: Any, path: str) -> Any:
        if isinstance(value, tuple):
            return tuple(value)
        state = dict(value.__getstate__() or {})
        if isinstance(value, nn.Module):
            for name in EMPTY.keys() - PARTS:
                if state.pop(name, None) not in (None, EMPTY[name]):
                    raise Unknown(f"{path} has hooks")
        state.pop("_sklearn_version", None)
        return state

    def _distribution(self, value: object, path: str) -> JSON:
        newer = type(value).__name__.removeprefix("Standard")  # of Normal(mu=0, sigma=1)
        if type(value) is _Frozen and _is_of_scipy(value.dist):
            return [value.dist.name, self.write(value.args, path), self.write(value.kwds, path)]
        if newer in CALLED and isinstance(value, CALLED[newer]):
            return [newer, [], self.write(dict(value._original_parameters), path)]
        if type(value) is _MultivariateNormal:
            both = {name: np.asarray(getattr(value, name)) for name in ("mean", "cov")}
            return ["multivariate_normal", [], self.write(both, path)]
        raise Unknown(f"{path} is a {type(value).__module__}.{type(value).__qualname__}")


def _is_of_scipy(distribution: Any) -> bool:
    """Whether it is one of scipy's own, not of a user's subclass, nor with other settings."""
    own: Any = getattr(stats, str(distribution.name), None)
    if type(own) is not type(distribution):
        return False
    return bool(repr(own._updated_ctor_param()) == repr(distribution._updated_ctor_param()))


class Reader:
    """Turn JSON and arrays back into values: the inverse of `Writer`."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = arrays

    def read(self, node: JSON) -> Any:
        """Return the value that JSON stands for; raises anything if it stands for none."""
        if isinstance(node, list):
            return [self.read(item) for item in node]
        if not isinstance(node, dict):
            return node
        ((tag, content),) = node.items()
        return READ[tag](self, content)

    def _array(self, content: JSON) -> Any:
        array, order = self.arrays[content[0]], content[1]
        return array[()] if order == "S" else np.array(array, order=order)

    def _tensor(self, content: JSON) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(self.arrays[content[0]], order="C"))
        return nn.Parameter(tensor, content[2]) if content[1] else tensor

    def _object(self, content: JSON) -> Any:
        kind, state = known()[content[0]], self.read(content[1])
        if issubclass(kind, tuple):
            return kind(*state)
        made = kind.__new__(kind)
        if isinstance(made, nn.Module):
            nn.Module.__init__(made)
        vars(made).update(state)
        return made

    def _distribution(self, content: JSON) -> Any:
        name, arguments, keywords = content
        kind = CALLED.get(name) or getattr(stats, name)
        if name not in CALLED and not isinstance(kind, stats.rv_continuous):
            raise ValueError(f"{name!r} is no continuous distribution of scipy.stats.")
        return kind(*self.read(arguments), **self.read(keywords))

    def _random(self, content: JSON) -> np.random.RandomState:
        state = np.random.RandomState(0)
        state.set_state(tuple(self.read(content)))
        return state


READ: Mapping[str, Callable[[Reader, JSON], Any]] = {
    "tuple": lambda reader, content: tuple(map(reader.read, content)),
    "dict": lambda reader, content: {reader.read(k): reader.read(v) for k, v in content},
    "float": lambda reader, content: {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}[content],
    "device": lambda reader, content: torch.device(content),
    "name": lambda reader, content: named()[content],
    "strings": lambda reader, content: np.array([str(item) for item in content], dtype=object),
    "array": Reader._array,
    "tensor": Reader._tensor,
    "object": Reader._object,
    "distribution": Reader._distribution,
    "random": Reader._random,
}


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


def _parts(estimator: BaseEstimator) -> dict[str, Any]:
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


def _width(estimator: BaseEstimator) -> int:
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
    estimator: BaseEstimator, apart: Collection[str] = ()
) -> tuple[dict[str, JSON], dict[str, np.ndarray]]:
    """Return a fitted estimator as JSON and arrays, without components of the user's own.

    Attributes called as in `apart` are left out; parameters are None.
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


def _made(name: str, own: object, parts: dict[str, Any]) -> Any:
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
