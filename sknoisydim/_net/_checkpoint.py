"""What training goes on from: the checkpoint of a fit that was killed, or the state of the last.

A line of a checkpoint has the format and a digest of the rest, which `torch.save` has made of
tensors and plain Python: reading it, with `weights_only=True`, runs no code.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import pickle
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import nn

from sknoisydim._data import Batches
from sknoisydim._files import write_bytes
from sknoisydim._modules import global_rng_states, set_global_rng_states
from sknoisydim._net._callbacks import Quiet

State = Mapping[str, Any]

#: The name of the file in its folder.
NAME = "fit.checkpoint"
FORMAT = "sknoisydim checkpoint 3"
# Seconds from one writing to the next, at least, and the share of the time that writing may take:
# a small network is written in milliseconds, and an epoch of it may take no longer.
SECONDS, SHARE = 10.0, 0.05


class FitCheckpoint(Quiet):
    """Write where training stands at the end of epochs, and go on from there.

    It is the last of the callbacks: of the others it writes what they have noted of the epoch.
    """

    def __init__(self, folder: Path, uses_global_rng: bool, seed: int, any_seed: bool) -> None:
        self.folder, self.path, self.uses_global_rng = folder, folder / NAME, uses_global_rng
        self.saved = _read(self.path)
        # Where the seed is free, it is that of the fit that is there.
        self.seed = seed if self.saved is None or not any_seed else int(self.saved["seed"])
        self.warned, self.due = False, 0.0

    def check(self, identity: Mapping[str, str]) -> None:
        """See that a checkpoint that is there belongs to this fit."""
        self.identity = new = {**identity, "random_state": f"of seed {self.seed}"}
        if self.saved is not None and (told := differences(self.saved["identity"], new)):
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds a fit that has not ended, and it is "
                f"another one: {told}. Use another folder, or delete {self.path} to give it up."
            )
        for part in self.folder.glob(f".{NAME}.*.part"):  # of a process that was killed
            part.unlink(missing_ok=True)

    def on_train_begin(self, net: NeuralNet, *, X: Batches, **kwargs: object) -> None:
        if self.saved is None:  # who cannot write says so at once
            self.on_epoch_end(net, dataset_train=X)
            return
        _go_to(net, X.generator, self.saved)
        self.saved, self.due = None, time.monotonic() + SECONDS

    def on_epoch_end(self, net: NeuralNet, *, dataset_train: Any, **kwargs: object) -> None:
        started, body = time.monotonic(), io.BytesIO()
        if started < self.due:
            return
        own = {"identity": self.identity, "seed": self.seed}
        torch.save(own | _position(net, dataset_train.generator, self.uses_global_rng), body)
        there = "the last good one stays" if self.path.exists() else "there is none"
        with self._telling(f"cannot be written, training goes on, and {there}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256(body.getbuffer()).hexdigest()
            write_bytes(self.path, f"{FORMAT} {digest}\n".encode(), body.getbuffer())
        ended = time.monotonic()
        self.due = ended + max(SECONDS, (ended - started) / SHARE)

    def remove(self) -> None:
        """Take the checkpoint away: the fit has ended, and the next one trains afresh."""
        with self._telling("cannot be removed, though its fit has ended"):
            self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self.warned:
                message = f"the checkpoint {self.path} {what}: {error}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            self.warned = True


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Say in what two fits differ; weights at the start follow from all the rest."""
    names = [name for name in {**new, **old} if new.get(name) != old.get(name)]
    named = [name for name in names if name != "initial weights"] or names
    return "; ".join(f"{name} was {old.get(name)} and is {new.get(name)}" for name in named)


def _read(path: Path) -> Any:
    """Return what a file holds, or None without one, or with a damaged one, which is told."""
    try:
        line, _, body = path.read_bytes().partition(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind, _, digest = line.decode(errors="replace").rpartition(" ")
    if digest != hashlib.sha256(body).hexdigest():
        message = f"the checkpoint {path} is damaged: training starts from the beginning."
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None
    if kind != FORMAT:
        raise ValueError(f"{path} is a {kind!r}, and this version of sknoisydim reads {FORMAT!r}.")
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds something else than tensors and plain Python, which a fit does not "
            "write. Delete it."
        ) from error


def _position(net: NeuralNet, shuffle: torch.Generator, uses_global_rng: bool) -> Any:
    """Return all that the epochs to come depend on, beside the rows and the parameters."""
    module, weights = net.module_, net.module_.state_dict()
    others = [(n, item) for n, item in net.callbacks_ if not isinstance(item, FitCheckpoint)]
    position = {
        "module": weights,
        "optimizer": net.optimizer_.state_dict(),
        "frozen": [n for n, value in module.named_parameters() if not value.requires_grad],
        "callbacks": {name: _noted(item, weights) for name, item in others},
        "schedules": _schedule_states(net),
        "history": [{**plain_parts(row), "batches": []} for row in net.history],
        "net": {"least_": net.least_, "step_": net.step_},
        "generators": {  # that layers draw from: our dropout has one each
            f"{name}.{attribute}".lstrip("."): (str(value.device), value.get_state())
            for name, part in module.named_modules()
            for attribute, value in vars(part).items()
            if isinstance(value, torch.Generator)
        },
        "drawing": [net.generator.get_state(), shuffle.get_state()],
        "global": global_rng_states() if uses_global_rng else None,
    }
    return plain(position, tensors=True)


def _noted(callback: object, weights: State) -> State:
    """Return what a callback has noted in training: numbers, text and weights.

    Anything else, and any other tensor, which may hold rows of the table, starts afresh.
    """
    parameters = inspect.signature(type(callback).__init__).parameters
    noted = {name: value for name, value in vars(callback).items() if name not in parameters}
    return plain_parts(noted) | {
        name: value
        for name, value in noted.items()
        if isinstance(value, Mapping) and value.keys() <= weights.keys()
    }


def _go_to(net: NeuralNet, shuffle: torch.Generator, state: State) -> None:
    """Put a net whose training has just begun where another one stood."""
    module, weights = net.module_, state["module"]
    for name in module.load_state_dict(weights, strict=False).unexpected_keys:
        _put(module, name, weights[name].to(net.device))  # a buffer that training has made
    net.optimizer_.load_state_dict(state["optimizer"])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    for name, item in net.callbacks_:
        vars(item).update(state["callbacks"].get(name, {}))
    _restore_schedules(net, state["schedules"])
    net.history.extend(state["history"])
    vars(net).update(state["net"])
    for name, (device, drawn) in state["generators"].items():
        _put(module, name, torch.Generator(device).set_state(drawn))
    for generator, drawn in zip((net.generator, shuffle), state["drawing"], strict=True):
        generator.set_state(drawn)
    if state["global"] is not None:
        set_global_rng_states(state["global"])


def _put(module: nn.Module, name: str, value: object) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(owner), attribute, value)


def training_state(net: NeuralNet) -> dict[str, Any]:
    """Return what a warm start goes on from: the optimizer's moments, and where schedules stand.

    What is neither a number nor a tensor is left out: it starts afresh.
    """
    names = {value: name for name, value in net.module_.named_parameters()}
    groups, state = net.optimizer_.param_groups, net.optimizer_.state
    return {
        **_kind(net.optimizer_),
        # An optimizer of the user's may have parameters that are not the module's.
        "moments": {names[p]: plain_parts(held, True) for p, held in state.items() if p in names},
        "rates": [{k: float(g[k]) for k in ("lr", "initial_lr") if k in g} for g in groups],
        "schedules": _schedule_states(net),
    }


class WarmStart(Quiet):
    """Go on from the `training_state` of another net."""

    def __init__(self, state: State) -> None:
        self.state = state

    def on_train_begin(self, net: NeuralNet, **kwargs: object) -> None:
        net.warm_ = self._restore_moments(net)
        if net.warm_ and _restore_schedules(net, self.state["schedules"]):
            for group, rates in zip(net.optimizer_.param_groups, self.state["rates"], strict=False):
                group.update(rates)
        self.state = {}  # a pickled net must not carry it along

    def _restore_moments(self, net: NeuralNet) -> bool:
        """Tell whether the optimizer is of the same kind; new parameters start without moments."""
        optimizer, kind = net.optimizer_, _kind(net.optimizer_)
        if kind != {name: self.state[name] for name in kind}:
            return False
        names = {value: name for name, value in net.module_.named_parameters()}
        parameters = [names.get(p) for group in optimizer.param_groups for p in group["params"]]
        moments = {
            i: {
                k: torch.as_tensor(v).clone() if isinstance(v, (np.ndarray, torch.Tensor)) else v
                for k, v in self.state["moments"][name].items()
            }
            for i, name in enumerate(parameters)
            if name in self.state["moments"]
        }
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
        return True


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


def _schedule_states(net: NeuralNet) -> dict[str, Any]:
    return {name: plain_parts(item.state_dict()) for name, item in _schedules(net).items()}


def _restore_schedules(net: NeuralNet, states: State) -> bool:
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
