"""Objects as JSON and arrays, and back: nothing runs, and only objects of known classes are made.

An object is its class, by name, and its attributes.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn import preprocessing
from sklearn.base import BaseEstimator
from torch import nn

from sknoisydim import augmentations, bounds

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


def _is_a(value: Any, kind: type) -> bool:
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

    def _distribution(self, value: Any, path: str) -> JSON:
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
