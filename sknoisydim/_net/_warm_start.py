"""What a warm start goes on from: the optimizer's moments, and where schedules stand."""

import contextlib
import copy
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet

from ._callbacks import Quiet

State = Mapping[str, Any]


def training_state(net: NeuralNet) -> dict[str, Any]:
    """Return what a warm start goes on from; what is neither number nor tensor starts afresh."""
    names = {value: name for name, value in net.module_.named_parameters()}
    groups, state = net.optimizer_.param_groups, net.optimizer_.state
    return {
        **_kind(net.optimizer_),
        # An optimizer of the user's may have parameters that are not the module's.
        "moments": {names[p]: plain_parts(held, True) for p, held in state.items() if p in names},
        "rates": [{k: float(g[k]) for k in ("lr", "initial_lr") if k in g} for g in groups],
        "schedules": schedule_states(net),
    }


class WarmStart(Quiet):
    """Go on from the `training_state` of another net, if its optimizer is of the same kind."""

    def __init__(self, state: State) -> None:
        self.state = state

    def on_train_begin(self, net: NeuralNet, **kwargs: object) -> None:
        optimizer, state, self.state = net.optimizer_, self.state, {}  # none is left for a pickle
        net.warm_ = all(state[name] == value for name, value in _kind(optimizer).items())
        if not net.warm_:
            return
        names = {value: name for name, value in net.module_.named_parameters()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        moments = {  # files of 0.1.0 hold arrays
            i: {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in held.items()}
            for i, p in enumerate(parameters)
            if (held := state["moments"].get(names.get(p))) is not None
        }
        moments = copy.deepcopy(moments)  # a fit that fails leaves those of before
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        if restore_schedules(net, state["schedules"]):
            for group, rates in zip(optimizer.param_groups, state["rates"], strict=False):
                group.update(rates)


def _kind(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return its name, and the options in use: with others, as amsgrad, there are other moments."""
    form = {
        name: bool(value)
        for name, value in optimizer.defaults.items()
        if isinstance(value, (bool, int, float)) and name not in ("lr", "weight_decay")
    }
    return {"optimizer": type(optimizer).__name__, "form": form}


def _schedules(net: NeuralNet) -> dict[str, Any]:
    """Return what of callbacks has a state, such as torch's schedules, by name."""
    return {
        name if attribute == "lr_scheduler_" else f"{name}.{attribute}": value
        for name, item in net.callbacks_
        for attribute, value in vars(item).items()
        if hasattr(value, "load_state_dict") and not inspect.isclass(value)
    }


def schedule_states(net: NeuralNet) -> dict[str, Any]:
    """Return where schedules stand."""
    return {name: plain_parts(item.state_dict()) for name, item in _schedules(net).items()}


def restore_schedules(net: NeuralNet, states: State) -> bool:
    """Return whether there are any."""
    known = [(item, states[name]) for name, item in _schedules(net).items() if name in states]
    for item, state in known:
        item.load_state_dict(item.state_dict() | state)
    return bool(known)


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
