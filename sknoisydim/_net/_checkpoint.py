"""What training goes on from: moments and schedules of the last one, and a checkpoint after a kill.

The checkpoint is a file from which the same fit goes on. A line has the format and a digest of the
rest, which `torch.save` has made of tensors and plain Python: reading it, with `weights_only=True`,
runs no code.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import io
import pickle
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch import nn

from sknoisydim._data import Table
from sknoisydim._files import write_bytes
from sknoisydim._modules import global_rng_states, set_global_rng_states
from sknoisydim._net._callbacks import Quiet
from sknoisydim._settings import Settings
from sknoisydim._version import __version__


def training_state(net: NeuralNet) -> dict[str, Any]:
    """Return the moments of a net's optimizer and where the schedules of its callbacks stand.

    What is neither a number nor a tensor is left out: it starts afresh.
    """
    names = {id(value): name for name, value in net.module_.named_parameters()}
    moments: dict[str, dict[str, Any]] = {}
    for parameter, values in net.optimizer_.state.items():
        with contextlib.suppress(TypeError, KeyError):
            plain = {
                str(k): v.detach().cpu().numpy().copy()
                if isinstance(v, torch.Tensor)
                else _plain(v, tensors=False)
                for k, v in values.items()
            }
            moments[names[id(parameter)]] = plain
    return {
        "optimizer": type(net.optimizer_).__name__,
        "form": _form(net.optimizer_),
        "moments": moments,
        "rates": [
            {key: float(group[key]) for key in ("lr", "initial_lr") if key in group}
            for group in net.optimizer_.param_groups
        ],
        "schedules": {n: _parts(item.lr_scheduler_.state_dict()) for n, item in _schedules(net)},
    }


def restore_optimizer(net: NeuralNet, state: Mapping[str, Any]) -> bool:
    """Give a new net's optimizer the moments of an old one, if it is of the same kind.

    Parameters that were not there start without.
    """
    optimizer = net.optimizer_
    if (state["optimizer"], state["form"]) != (type(optimizer).__name__, _form(optimizer)):
        return False
    names = {id(value): name for name, value in net.module_.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found = {
        number: {
            key: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for key, value in state["moments"][names[id(p)]].items()
        }
        for number, p in enumerate(parameters)
        if names.get(id(p)) in state["moments"]
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": found, "param_groups": groups})
    return True


def restore_schedules(net: NeuralNet, state: Mapping[str, Any]) -> None:
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


def _schedules(net: NeuralNet) -> Iterator[tuple[str, Any]]:
    for name, item in net.callbacks_:
        if isinstance(item, LRScheduler) and hasattr(item, "lr_scheduler_"):
            yield name, item


#: The name of the file in its folder.
NAME = "fit.checkpoint"
FORMAT = "sknoisydim checkpoint 2"
# Seconds from one writing to the next, at least, and the share of the time that writing may take:
# a small network is written in milliseconds, and an epoch of it may take no longer.
SECONDS, SHARE = 10.0, 0.05


class FitCheckpoint(Quiet):
    """Write where training stands at the end of epochs, and go on from there.

    It is the last of the callbacks: of the others it writes what they have noted of the epoch.
    """

    def __init__(self, folder: Path, uses_global_rng: bool) -> None:
        self.folder, self.path, self.uses_global_rng = folder, folder / NAME, uses_global_rng
        self.saved = _read(self.path)
        self.n_epochs = 0 if self.saved is None else len(self.saved["history"])
        self.warned, self.due = False, 0.0

    def claim(self, seed: int, any_seed: bool) -> int:
        """Return the seed of this fit: where it is free, that of the fit that is there, if any."""
        self.seed = int(self.saved["seed"]) if self.saved is not None and any_seed else seed
        return self.seed

    def check(self, identity: Mapping[str, str]) -> None:
        """See that a checkpoint that is there belongs to this fit."""
        self.identity = new = {**identity, "random_state": f"of seed {self.seed}"}
        old = new if self.saved is None else self.saved["identity"]
        names = [name for name in new | old if new.get(name) != old.get(name)]
        # The weights that training starts from follow from all the rest.
        named = [name for name in names if name != "initial weights"] or names
        if named:
            told = "; ".join(f"{name} was {old.get(name)} and is {new.get(name)}" for name in named)
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds a fit that has not ended, and it is "
                f"another one: {told}. Use another folder, or delete {self.path} to give it up."
            )
        for part in self.folder.glob(f".{NAME}.*.part"):  # of a process that was killed
            part.unlink(missing_ok=True)

    def begin(self, net: NeuralNet, batches: Any) -> None:
        """Go on from the checkpoint, or write the first one: who cannot write says so at once."""
        if self.saved is None:
            self.on_epoch_end(net, batches)
            return
        _go_to(net, batches.generator, self.saved)
        self.saved, self.due = None, time.monotonic() + SECONDS

    def on_epoch_end(self, net: NeuralNet, dataset_train: Any = None, **kwargs: object) -> None:
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


def _position(net: NeuralNet, shuffle: torch.Generator, uses_global_rng: bool) -> dict[str, Any]:
    """Return all that the epochs to come depend on, beside the rows and the parameters."""
    module = net.module_
    try:
        states = [_plain(part.state_dict()) for part in (module, net.optimizer_)]
    except TypeError as error:
        raise TypeError(
            f"checkpoint= writes numbers, text and tensors, and the state of the optimizer, or of "
            f"a module, holds {error}: use checkpoint=None."
        ) from error
    return {
        "states": states,
        "frozen": [n for n, value in module.named_parameters() if not value.requires_grad],
        "callbacks": {n: _noted(item, states[0]) for n, item in net.callbacks_},
        "history": [{**_parts(row), "batches": []} for row in net.history],
        "net": {"least_": net.least_, "step_": net.step_},
        "generators": {n: (str(g.device), g.get_state()) for n, g in _generators(module)},
        "drawing": [net.generator.get_state(), shuffle.get_state()],
        "global": global_rng_states() if uses_global_rng else None,
    }


def _go_to(net: NeuralNet, shuffle: torch.Generator, state: Mapping[str, Any]) -> None:
    """Put a net whose training has just begun where another one stood."""
    module = net.module_
    left = module.load_state_dict(state["states"][0], strict=False).unexpected_keys
    for name in left:  # buffers that training has made
        _put(module, name, state["states"][0][name].to(net.device))
    net.optimizer_.load_state_dict(state["states"][1])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    for name, item in net.callbacks_:
        for attribute, (kind, value) in state["callbacks"].get(name, {}).items():
            if kind == "value":
                vars(item)[attribute] = value
            elif _has_state(schedule := vars(item).get(attribute)):
                schedule.load_state_dict(schedule.state_dict() | value)
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


def _generators(module: nn.Module) -> Iterator[tuple[str, torch.Generator]]:
    """Yield the generators that layers draw from: our dropout has one each."""
    for name, part in module.named_modules():
        for attribute, value in vars(part).items():
            if isinstance(value, torch.Generator):
                yield f"{name}.{attribute}".lstrip("."), value


def _has_state(value: object) -> bool:
    return hasattr(value, "load_state_dict") and not inspect.isclass(value)


def _noted(callback: object, weights: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Return what a callback has noted in training: numbers, weights, and where a schedule stands.

    Anything else, and any other tensor, which may hold rows of the table, starts afresh.
    """
    parameters = inspect.signature(type(callback).__init__).parameters
    noted = {k: v for k, v in vars(callback).items() if k not in parameters}
    found = {name: ("value", value) for name, value in _parts(noted).items()}
    for name, value in noted.items():
        if _has_state(value):
            found[name] = ("state", _parts(value.state_dict()))
        elif isinstance(value, Mapping) and value and value.keys() <= weights.keys():
            found[name] = ("value", _plain(value))
    return {} if isinstance(callback, FitCheckpoint) else found


def _parts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that are numbers and text, or made of these."""
    found = {}
    for name, value in values.items():
        with contextlib.suppress(TypeError):
            found[name] = _plain(value, tensors=False)
    return found


def _plain(value: object, *, tensors: bool = True) -> Any:
    """Return a value as tensors and plain Python, which are read without running any code."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor) and tensors:
        return value.detach()
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, (list, tuple)):
        items = [_plain(item, tensors=tensors) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v, tensors=tensors) for k, v in value.items()}
    raise TypeError(f"a {type(value).__name__}")


# Bytes of a table that are looked at: all of a smaller one.
HASHED_BYTES = 2**26
# Settings that say nothing of the epochs, or are told in another way.
APART = {"checkpoint", "refine"}


def identity(
    settings: Settings, table: Table, validation: Table | None, module: nn.Module
) -> dict[str, str]:
    """Return what all epochs follow from, in words and digests, by the user's names.

    `module`, with the weights that training starts from, stands for the code that makes them, and
    for the fit that a warm start goes on from.
    """
    found = {name: describe(value) for name, value in vars(settings).items() if name not in APART}
    # The map itself comes after the epochs, but whether there is one changes their objective.
    found["refine"] = "None" if settings.refine is None else "set"
    for rows, suffix in ((table, ""), (validation, "_val")):
        if rows is not None:
            X, n_rows = rows.X, len(rows)
            count = max(1, min(n_rows, HASHED_BYTES // max(1, X.shape[1] * X.dtype.itemsize)))
            # Of a large table some rows, at even distances.
            digest = describe(X[np.linspace(0, n_rows - 1, count).round().astype(np.int64)])
            found[f"X{suffix}"] = f"{(n_rows, *(rows.shape or X.shape[1:]))} {digest}"
            found[f"y{suffix}"] = describe(rows.targets)
    found["sample_weight"] = describe(table.weights)
    weights = [v for v in module.state_dict().values() if isinstance(v, torch.Tensor)]
    found["initial weights"] = hashlib.sha256(describe(weights).encode()).hexdigest()[:16]
    found["sknoisydim"] = __version__
    return found | {name: importlib.metadata.version(name) for name in ("torch", "skorch")}


def describe(value: object) -> str:
    """Return a text that is the same for equal values in any process: no address is in it."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).tobytes()
        return f"{value.dtype} {value.shape} sha256:{hashlib.sha256(data).hexdigest()[:16]}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(describe, value))}]"
    if inspect.isclass(value) or isinstance(value, nn.Module):  # whose weights are told apart
        return re.sub(r" at 0x\w+", "", repr(value))
    if hasattr(value, "get_params") or kind.startswith("sknoisydim."):
        parts = getattr(value, "get_params", lambda **_: vars(value))(deep=False)
        return f"{kind}({', '.join(f'{name}={describe(part)}' for name, part in parts.items())})"
    return re.sub(r" at 0x\w+", "", repr(value))
