"""Kinds that a name and parameters say: our components, laws of scipy.stats, optimizers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.base import BaseEstimator

from sknoisydim import (
    augmentations,
    bounds,
    critics,
    encoders,
    noise,
    normalization,
    refinement,
    targets,
)

from ._codec import JSON, Kind, Reader, Unknown, Writer

ROOMS = (augmentations, bounds, critics, encoders, noise, normalization, refinement, targets)

_MultivariateNormal = type(stats.multivariate_normal([0.0], [[1.0]]))
_Frozen = type(stats.norm())


@functools.cache
def _public() -> Mapping[str, Any]:
    """Return the public classes of components and functions by name: "critics.ExactCritic"."""
    found = {}
    functions = [augmentations.identity, *bounds.BOUNDS.values(), bounds.dv]
    for room in ROOMS:
        for name, value in vars(room).items():
            ours = getattr(value, "__module__", "").startswith(room.__name__)
            component = inspect.isclass(value) and issubclass(value, BaseEstimator)
            if ours and not name.startswith("_") and (component or value in functions):
                found[f"{room.__name__.rpartition('.')[2]}.{name}"] = value
    return found


@functools.cache
def _names() -> Mapping[Any, str]:
    return {value: name for name, value in _public().items()}


def _is_public(value: Any) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and value in _names()


def _write_component(value: Any, writer: Writer, path: str) -> JSON:
    parameters = value.get_params(deep=False)
    written = {name: writer.write(v, f"{path}.{name}") for name, v in parameters.items()}
    return [_names()[type(value)], written]


def _read_component(node: JSON, reader: Reader) -> Any:
    name, parameters = node
    return _public()[name](**{key: reader.read(value) for key, value in parameters.items()})


def _is_optimizer(value: Any) -> bool:
    if not inspect.isclass(value) or not issubclass(value, torch.optim.Optimizer):
        return False
    return getattr(torch.optim, value.__name__, None) is value


def _read_optimizer(node: JSON, reader: Reader) -> Any:
    found = getattr(torch.optim, node)
    if not _is_optimizer(found):
        raise ValueError(f"{node!r} is no optimizer of torch.")
    return found


def _law(name: str) -> Any:
    found = getattr(stats, name)
    if not isinstance(found, stats.rv_continuous):
        raise ValueError(f"{name!r} is no continuous law of scipy.stats.")
    return found


def _settings(law: Any) -> Any:
    """Return what scipy itself makes a copy of a law with."""
    return law._updated_ctor_param()


def _is_law(value: Any) -> bool:
    """Whether it is a frozen law of scipy's own, not of a subclass of the user's."""
    if not isinstance(value, _Frozen):
        return False
    ours = getattr(stats, str(value.dist.name), None)
    if type(ours) is not type(value.dist):
        return False
    return repr(_settings(value.dist)) == repr(_settings(ours))


def _write_law(value: Any, writer: Writer, path: str) -> JSON:
    arguments, keywords = writer.write(value.args, path), writer.write(value.kwds, path)
    return [value.dist.name, arguments, keywords]


def _read_law(node: JSON, reader: Reader) -> Any:
    name, arguments, keywords = node
    return _law(name)(*reader.read(arguments), **reader.read(keywords))


#: The laws with a name among the newer generation's of scipy.stats.
_NEWER = {name: getattr(stats, name) for name in ("Normal", "Uniform") if hasattr(stats, name)}


def _newer_name(value: Any) -> str:
    # Normal(mu=0, sigma=1) makes an object of a class that has no public name.
    return type(value).__name__.removeprefix("Standard")


def _is_newer_law(value: Any) -> bool:
    known = _NEWER.get(_newer_name(value))
    return known is not None and isinstance(value, known)


def _write_newer_law(value: Any, writer: Writer, path: str) -> JSON:
    return [_newer_name(value), writer.write(dict(value._original_parameters), path)]


def _read_newer_law(node: JSON, reader: Reader) -> Any:
    return _NEWER[node[0]](**reader.read(node[1]))


def _write_joint_law(value: Any, writer: Writer, path: str) -> JSON:
    mean, cov = np.asarray(value.mean), np.asarray(value.cov)
    return [writer.write(mean, f"{path}.mean"), writer.write(cov, f"{path}.cov")]


def _read_joint_law(node: JSON, reader: Reader) -> Any:
    return stats.multivariate_normal(*map(reader.read, node))


def _write_random_state(value: Any, writer: Writer, path: str) -> JSON:
    name, key, *rest = value.get_state(legacy=True)
    if name != "MT19937":
        raise Unknown(f"{path} is a RandomState of {name}")
    return [writer.array(key, path), *map(writer.write, rest, [path] * len(rest))]


def _read_random_state(node: JSON, reader: Reader) -> Any:
    key, *rest = node
    state = np.random.RandomState(0)
    state.set_state(("MT19937", reader.array(key), *map(reader.read, rest)))
    return state


NAMES: Mapping[str, Kind] = {
    "name": Kind(
        _is_public,
        lambda value, writer, path: _names()[value],
        lambda node, reader: _public()[node],
    ),
    "component": Kind(
        lambda value: isinstance(value, BaseEstimator) and type(value) in _names(),
        _write_component,
        _read_component,
    ),
    "optimizer": Kind(_is_optimizer, lambda value, writer, path: value.__name__, _read_optimizer),
    "device": Kind(
        lambda value: isinstance(value, torch.device),
        lambda value, writer, path: str(value),
        lambda node, reader: torch.device(node),
    ),
    "law": Kind(_is_law, _write_law, _read_law),
    "newer law": Kind(_is_newer_law, _write_newer_law, _read_newer_law),
    "joint law": Kind(
        lambda value: type(value) is _MultivariateNormal, _write_joint_law, _read_joint_law
    ),
    "random state": Kind(
        lambda value: type(value) is np.random.RandomState,
        _write_random_state,
        _read_random_state,
    ),
}
