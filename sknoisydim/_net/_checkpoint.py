"""Where training stands, for a warm start and in a file from which it goes on after a kill.

The first line of the file has the format and a digest of the rest, which `torch.save` has made of
tensors and plain Python: reading it, with `weights_only=True`, runs no code.
"""

import contextlib
import copy
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

from sknoisydim._data import Batches, Table
from sknoisydim._files import write_bytes
from sknoisydim._modules import global_rng_states, set_global_rng_states
from sknoisydim._settings import Settings
from sknoisydim._version import __version__

from ._callbacks import Quiet

State = Mapping[str, Any]
NAME, FORMAT = "fit.checkpoint", "sknoisydim checkpoint 4"
# Seconds from one writing to the next, at least, and the share of the time that writing may take.
SECONDS, SHARE = 10.0, 0.05
# Bytes of a table that are looked at: all of a smaller one.
HASHED_BYTES = 2**26
# Settings that say nothing of the epochs, or are told in another way.
APART = {"any_seed", "checkpoint", "refine", "takes_missing"}


class FitCheckpoint(Quiet):
    """Write where training stands, and what callbacks before it have noted; go on from there."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.folder, self.uses_global_rng = settings.checkpoint, settings.uses_global_rng
        self.path = self.folder / NAME
        self.saved = _read(self.path)
        # Where the seed is free, it is that of the fit that is there.
        self.seed = int(self.saved["seed"]) if self.saved and settings.any_seed else seed
        self.warned, self.due = False, 0.0

    def check(self, identity: Mapping[str, str]) -> None:
        """See that a checkpoint that is there belongs to this fit."""
        self.identity = new = {**identity, "random_state": f"of seed {self.seed}"}
        if self.saved is not None and (told := differences(self.saved["identity"], new)):
            raise ValueError(
                f"checkpoint={str(self.folder)!r} holds a fit that has not ended, another one: "
                f"{told}. Use another folder, or delete {self.path} to give it up."
            )
        for part in self.folder.glob(f".{NAME}.*.part"):  # of a process that was killed
            part.unlink(missing_ok=True)

    def on_train_begin(self, net: NeuralNet, *, X: Batches, **kwargs: object) -> None:
        if self.saved is None:  # who cannot write says so at once
            self.on_epoch_end(net, dataset_train=X)
        else:
            _go_to(net, X.generator, self.saved)
            self.saved, self.due = None, time.monotonic() + SECONDS

    def on_epoch_end(self, net: NeuralNet, *, dataset_train: Any, **kwargs: object) -> None:
        started, file = time.monotonic(), io.BytesIO()
        if started < self.due:
            return
        own = {"identity": self.identity, "seed": self.seed}
        torch.save(own | _position(net, dataset_train.generator, self.uses_global_rng), file)
        body = file.getbuffer()
        there = "the last good one stays" if self.path.exists() else "there is none"
        with self._telling(f"cannot be written, training goes on, and {there}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.path, f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode(), body)
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


def identity(
    settings: Settings, table: Table, validation: Table | None, module: torch.nn.Module
) -> dict[str, str]:
    """Return what all epochs follow from, in words and digests, by the user's names."""
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
    found["sample_weight"], found["sknoisydim"] = describe(table.weights), __version__
    # For what makes them, and for what a warm start goes on from.
    found["initial weights"] = describe([*module.parameters(), *module.buffers()])
    return found | {name: importlib.metadata.version(name) for name in ("torch", "skorch")}


def describe(value: object) -> str:
    """Return a text that is the same for equal values in any process: no address is in it."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).tobytes()
        return f"{value.dtype} {value.shape} sha256:{hashlib.sha256(data).hexdigest()[:16]}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(describe, value))}]"
    # A module's weights are told apart.
    is_ours = hasattr(value, "get_params") or kind.startswith("sknoisydim.")
    if is_ours and not (inspect.isclass(value) or isinstance(value, torch.nn.Module)):
        parts = getattr(value, "get_params", lambda **_: vars(value))(deep=False)
        return f"{kind}({', '.join(f'{name}={describe(part)}' for name, part in parts.items())})"
    return re.sub(r" at 0x\w+", "", repr(value))


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Say in what two fits differ; weights at the start follow from all the rest."""
    names = [name for name in {**new, **old} if new.get(name) != old.get(name)]
    named = [name for name in names if name != "initial weights"] or names
    return "; ".join(f"{name} was {old.get(name)} and is {new.get(name)}" for name in named)


def _read(path: Path) -> Any:
    """Return what a file holds, or None without one, or with a damaged one, which is told."""
    if not path.exists():
        return None
    line, _, body = path.read_bytes().partition(b"\n")
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
        message = f"{path} holds something else than tensors and plain Python: delete it."
        raise ValueError(message) from error


def _position(net: NeuralNet, shuffle: torch.Generator, uses_global_rng: bool) -> Any:
    """Return all that the epochs to come depend on, beside the rows and the parameters."""
    module, weights = net.module_, net.module_.state_dict()
    position = {
        "module": weights,
        "optimizer": net.optimizer_.state_dict(),
        "frozen": [n for n, value in module.named_parameters() if not value.requires_grad],
        "callbacks": {name: _noted(item, weights) for name, item in net.callbacks_[:-1]},
        "schedules": schedule_states(net),
        "history": [{**plain_parts(row), "batches": []} for row in net.history],
        "step": net.step_,
        "generators": {  # that layers draw from: our dropout has one each
            f"{name}.{attribute}".lstrip("."): (str(value.device), value.get_state())
            for name, part in module.named_modules()
            for attribute, value in vars(part).items()
            if isinstance(value, torch.Generator)
        },
        "drawing": [net.generator.get_state(), shuffle.get_state()],
        "global": global_rng_states() if uses_global_rng else [],
    }
    return plain(position, tensors=True)


def _noted(callback: object, weights: State) -> State:
    """Return numbers, text and weights that a callback has noted; other tensors may hold rows."""
    parameters = inspect.signature(type(callback).__init__).parameters
    noted = {name: value for name, value in vars(callback).items() if name not in parameters}
    maps = {name: value for name, value in noted.items() if isinstance(value, Mapping)}
    return plain_parts(noted) | {k: v for k, v in maps.items() if v.keys() <= weights.keys()}


def _go_to(net: NeuralNet, shuffle: torch.Generator, state: State) -> None:
    """Put a net whose training has just begun where another one stood."""
    module, weights = net.module_, state["module"]
    # Buffers that training has made, and generators.
    unexpected = module.load_state_dict(weights, strict=False).unexpected_keys
    made: dict[str, Any] = {name: weights[name].to(net.device) for name in unexpected}
    for name, (device, drawn) in state["generators"].items():
        made[name] = torch.Generator(device).set_state(drawn)
    for name, value in made.items():
        owner, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(owner), attribute, value)
    net.optimizer_.load_state_dict(state["optimizer"])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    for name, item in net.callbacks_:
        vars(item).update(state["callbacks"].get(name, {}))
    restore_schedules(net, state["schedules"])
    net.history.extend(state["history"])
    net.step_ = state["step"]
    for generator, drawn in zip((net.generator, shuffle), state["drawing"], strict=True):
        generator.set_state(drawn)
    if state["global"]:
        set_global_rng_states(state["global"])


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
        # Of a copy: a fit that fails leaves those of before.
        optimizer.load_state_dict(optimizer.state_dict() | {"state": copy.deepcopy(moments)})
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
    known = {name: item for name, item in _schedules(net).items() if name in states}
    for name, item in known.items():
        item.load_state_dict(item.state_dict() | states[name])
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
        return (tuple if isinstance(value, tuple) else list)(plain(v, tensors) for v in value)
    if isinstance(value, Mapping):
        return {plain(k, tensors): plain(v, tensors) for k, v in value.items()}
    raise TypeError(
        f"checkpoint= writes numbers, text and tensors, and the state of the optimizer, or of a "
        f"module, holds a {type(value).__name__}: use checkpoint=None."
    )
