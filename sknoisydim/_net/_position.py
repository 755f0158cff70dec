"""Where training stands, as tensors and plain Python, and how a new net is put there."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from sknoisydim._isolation import global_generators, set_global_generators

from ._tasks import Tasks


def position(net: Any, shuffle: torch.Generator, foreign: bool) -> dict[str, Any]:
    """Return all that the epochs to come depend on, beside the rows and the parameters.

    Parameters
    ----------
    net : DIMNet
        At the end of an epoch, or before the first.
    shuffle : torch.Generator
        That of the batches.
    foreign : bool
        Whether torch's global generators are ours for the time of training, for a user's module.

    Raises
    ------
    TypeError
        If the optimizer, or the extra state of a module, holds something else than numbers, text
        and tensors.
    """
    module = net.module_
    return {
        "tensors": {name: _plain(value, "") for name, value in _tensors(module)},
        "frozen": [n for n, value in module.named_parameters() if not value.requires_grad],
        "extra": {
            name: _plain(part.get_extra_state(), f"the extra state of {name or 'the module'}")
            for name, part in _with_extra_state(module)
        },
        "optimizer": _plain(net.optimizer_.state_dict(), "the state of the optimizer"),
        "callbacks": {
            name: _memory(item, module)
            for name, item in net.callbacks_
            if not isinstance(item, Tasks)  # it holds the rows
        },
        "history": [_row(row) for row in net.history],
        "least": dict(net.least_),
        "step": net.step_,
        "training": net.generator.get_state(),
        "shuffle": shuffle.get_state(),
        "drawing": {
            name: (str(value.device), value.get_state()) for name, value in _generators(module)
        },
        "global": global_generators() if foreign else None,
    }


def go_to(net: Any, shuffle: torch.Generator, state: Mapping[str, Any]) -> None:
    """Put a net whose training has just begun where another one stood."""
    module = net.module_
    own = dict(_tensors(module))
    with torch.no_grad():
        for name, value in state["tensors"].items():
            old = own.get(name)
            if old is not None and old.shape == value.shape:
                old.copy_(value)
            else:  # a buffer that training makes
                owner, _, attribute = name.rpartition(".")
                setattr(module.get_submodule(owner), attribute, value)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    for name, part in _with_extra_state(module):
        part.set_extra_state(state["extra"][name])
    net.optimizer_.load_state_dict(state["optimizer"])
    for name, item in net.callbacks_:
        _remember(item, state["callbacks"].get(name, {}))
    net.history.extend(state["history"])
    net.least_, net.step_ = dict(state["least"]), state["step"]
    for name, (device, value) in state["drawing"].items():
        owner, _, attribute = name.rpartition(".")
        generator = torch.Generator(device)
        generator.set_state(value)
        setattr(module.get_submodule(owner), attribute, generator)
    net.generator.set_state(state["training"])
    shuffle.set_state(state["shuffle"])
    if state["global"] is not None:
        set_global_generators(state["global"])


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and buffers, also those that a `state_dict` leaves out."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def _with_extra_state(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in module.named_modules():
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            yield name, part


def _generators(module: nn.Module) -> Iterator[tuple[str, torch.Generator]]:
    """Yield the generators that layers draw from: our dropout has one each."""
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            if isinstance(value, torch.Generator):
                yield f"{name}.{attribute}" if name else attribute, value


def _plain(value: Any, what: str) -> Any:
    """Return a copy of tensors and plain Python, which is read without running any code."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.generic):
        return _plain(value.item(), what)
    if isinstance(value, (list, tuple)):
        items = [_plain(item, what) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {_plain(key, what): _plain(item, what) for key, item in value.items()}
    raise TypeError(
        f"checkpoint= writes numbers, text and tensors, and {what} holds a {type(value).__name__}: "
        "use checkpoint=None."
    )


def _numbers(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        raise TypeError("a tensor may hold rows of the table")
    if isinstance(value, (list, tuple)):
        return type(value)([_numbers(item) for item in value])
    if isinstance(value, Mapping):
        return {key: _numbers(item) for key, item in value.items()}
    return _plain(value, "a callback")


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the history, with what can be written; of its batches callbacks read one."""
    found = _parts(row, _numbers)
    found["batches"] = [_parts(batch, _numbers) for batch in row["batches"][-1:]]
    return found


def _parts(values: Mapping[str, Any], write: Callable[[Any], Any]) -> dict[str, Any]:
    """Return those of the values that can be written."""
    found = {}
    for name, value in values.items():
        with contextlib.suppress(TypeError):
            found[name] = write(value)
    return found


def _memory(callback: Callback, module: nn.Module) -> dict[str, Any]:
    """Return what a callback has noted in training: numbers, weights, and where a schedule stands.

    Anything else, and any other tensor, which may hold rows of the table, starts afresh.
    """
    names = module.state_dict().keys()
    parameters = inspect.signature(type(callback).__init__).parameters

    def write(value: Any) -> Any:
        if _has_state(value):
            return {"state": _parts(value.state_dict(), lambda part: _plain(part, ""))}
        weights = isinstance(value, Mapping) and value and value.keys() <= names
        return {"value": _plain(value, "") if weights else _numbers(value)}

    return _parts({k: v for k, v in vars(callback).items() if k not in parameters}, write)


def _remember(callback: Callback, memory: Mapping[str, Any]) -> None:
    """Give a callback what `_memory` found in another one."""
    for name, entry in memory.items():
        if "value" in entry:
            vars(callback)[name] = entry["value"]
        elif _has_state(vars(callback).get(name)):
            scheduler = vars(callback)[name]
            scheduler.load_state_dict(scheduler.state_dict() | entry["state"])


def _has_state(value: Any) -> bool:
    return not inspect.isclass(value) and all(
        callable(getattr(value, name, None)) for name in ("state_dict", "load_state_dict")
    )
