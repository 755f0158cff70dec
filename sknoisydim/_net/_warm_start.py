"""What a warm start goes on from: the optimizer's moments, and where schedules stand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler

State = Mapping[str, Any]


def training_state(net: NeuralNet) -> dict[str, Any]:
    """Return the moments of a net's optimizer and where the schedules of its callbacks stand.

    What is neither a number nor a tensor is left out: it starts afresh.
    """
    names = {value: name for name, value in net.module_.named_parameters()}
    groups, state = net.optimizer_.param_groups, net.optimizer_.state
    return {
        "optimizer": type(net.optimizer_).__name__,
        "form": _form(net.optimizer_),
        # An optimizer of the user's may have parameters that are not the module's.
        "moments": {names[p]: plain_parts(held, True) for p, held in state.items() if p in names},
        "rates": [{k: float(g[k]) for k in ("lr", "initial_lr") if k in g} for g in groups],
        "schedules": {n: plain_parts(item.state_dict()) for n, item in _schedules(net)},
    }


def restore_optimizer(net: NeuralNet, state: State) -> bool:
    """Give a new net's optimizer the moments of an old one, if it is of the same kind.

    Parameters that were not there start without.
    """
    optimizer = net.optimizer_
    if (state["optimizer"], state["form"]) != (type(optimizer).__name__, _form(optimizer)):
        return False
    names = {value: name for name, value in net.module_.named_parameters()}
    parameters = [names.get(p) for group in optimizer.param_groups for p in group["params"]]
    found = {
        i: {
            k: torch.as_tensor(v).clone() if isinstance(v, (np.ndarray, torch.Tensor)) else v
            for k, v in state["moments"][name].items()
        }
        for i, name in enumerate(parameters)
        if name in state["moments"]
    }
    optimizer.load_state_dict(optimizer.state_dict() | {"state": found})
    return True


def restore_schedules(net: NeuralNet, state: State) -> None:
    """Let the schedules of callbacks go on from where they stood."""
    known = [(name, item) for name, item in _schedules(net) if name in state["schedules"]]
    for name, scheduler in known:
        scheduler.load_state_dict(scheduler.state_dict() | state["schedules"][name])
    for group, rates in zip(net.optimizer_.param_groups, state["rates"], strict=False):
        group.update(rates if known else {})


def _form(optimizer: torch.optim.Optimizer) -> dict[str, bool]:
    """Return which options are in use: with others, such as amsgrad, there are other moments."""
    return {
        name: bool(value)
        for name, value in optimizer.defaults.items()
        if isinstance(value, (bool, int, float)) and name not in ("lr", "weight_decay")
    }


def _schedules(net: NeuralNet) -> Iterator[tuple[str, Any]]:
    for name, item in net.callbacks_:
        if isinstance(item, LRScheduler) and hasattr(item, "lr_scheduler_"):
            yield name, item.lr_scheduler_


def plain_parts(values: State, tensors: bool = False) -> dict[str, Any]:
    """Return those of the values that are numbers and text, or made of these."""
    found = {}
    for name, value in values.items():
        with contextlib.suppress(TypeError):
            found[name] = plain(value, tensors)
    return found


def plain(value: object, tensors: bool) -> Any:
    """Return a value as tensors and plain Python, which are read without running any code."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor) and tensors:
        return value.detach().cpu()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        items = [plain(item, tensors) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {plain(k, tensors): plain(v, tensors) for k, v in value.items()}
    raise TypeError(
        f"checkpoint= writes numbers, text and tensors, and the state of the optimizer, or of a "
        f"module, holds a {type(value).__name__}: use checkpoint=None."
    )
