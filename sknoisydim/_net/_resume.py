"""What training goes on from beside the weights, as plain numbers and arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch.callbacks import LRScheduler


def training_state(net: Any) -> dict[str, Any]:
    """Return the moments of a net's optimizer and where the schedules of its callbacks stand.

    What is neither a number nor a tensor is left out: it starts afresh.
    """
    names = {id(value): name for name, value in net.module_.named_parameters()}
    moments: dict[str, dict[str, Any]] = {}
    for parameter, values in net.optimizer_.state.items():
        with contextlib.suppress(TypeError, KeyError):
            moments[names[id(parameter)]] = {str(k): _plain(v) for k, v in values.items()}
    schedules: dict[str, dict[str, Any]] = {}
    for name, item in _schedules(net):
        schedules[name] = {}
        for key, value in item.lr_scheduler_.state_dict().items():
            with contextlib.suppress(TypeError):
                schedules[name][key] = _plain(value)
    rates = [
        {key: float(group[key]) for key in ("lr", "initial_lr") if key in group}
        for group in net.optimizer_.param_groups
    ]
    return {
        "optimizer": type(net.optimizer_).__name__,
        "form": _form(net.optimizer_),
        "moments": moments,
        "rates": rates,
        "schedules": schedules,
    }


def restore_optimizer(net: Any, state: Mapping[str, Any]) -> bool:
    """Give a new net's optimizer the moments of an old one, if it is of the same kind.

    Parameters that were not there start without.
    """
    optimizer = net.optimizer_
    if (state["optimizer"], state["form"]) != (type(optimizer).__name__, _form(optimizer)):
        return False
    names = {id(value): name for name, value in net.module_.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found = {
        number: {key: _tensor(value) for key, value in state["moments"][names[id(p)]].items()}
        for number, p in enumerate(parameters)
        if names.get(id(p)) in state["moments"]
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": found, "param_groups": groups})
    return True


def restore_schedules(net: Any, state: Mapping[str, Any]) -> None:
    """Let the schedules of callbacks go on from where they stood."""
    known = {name: item for name, item in _schedules(net) if name in state["schedules"]}
    for name, item in known.items():
        scheduler = item.lr_scheduler_
        own = scheduler.state_dict()
        scheduler.load_state_dict(own | dict(state["schedules"][name]))
    if known:
        for group, rates in zip(net.optimizer_.param_groups, state["rates"], strict=False):
            group.update(rates)


def _form(optimizer: Any) -> dict[str, bool]:
    """Return which options are in use: with others, such as amsgrad, there are other moments."""
    return {
        name: bool(value)
        for name, value in optimizer.defaults.items()
        if isinstance(value, (bool, int, float)) and name not in ("lr", "weight_decay")
    }


def _schedules(net: Any) -> Iterator[tuple[str, Any]]:
    for name, item in net.callbacks_:
        if isinstance(item, LRScheduler) and hasattr(item, "lr_scheduler_"):
            yield name, item


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().copy()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no number")


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
