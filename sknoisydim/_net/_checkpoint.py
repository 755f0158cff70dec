"""The checkpoint: a file from which a fit that was killed goes on.

A line has the format and a digest of the rest, which `torch.save` has made of tensors and plain
Python: reading it, with `weights_only=True`, runs no code.
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
from torch import nn

from sknoisydim._data import Batches, Table
from sknoisydim._files import write_bytes
from sknoisydim._modules import global_rng_states, set_global_rng_states
from sknoisydim._net._callbacks import Quiet
from sknoisydim._net._warm_start import State, plain, plain_parts
from sknoisydim._settings import Settings
from sknoisydim._version import __version__

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

    def begin(self, net: NeuralNet, batches: Batches) -> None:
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
    states = [plain(part.state_dict(), True) for part in (module, net.optimizer_)]
    return {
        "states": states,
        "frozen": [n for n, value in module.named_parameters() if not value.requires_grad],
        "callbacks": {n: _noted(item, states[0]) for n, item in net.callbacks_},
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


def _go_to(net: NeuralNet, shuffle: torch.Generator, state: State) -> None:
    """Put a net whose training has just begun where another one stood."""
    module, weights = net.module_, state["states"][0]
    for name in module.load_state_dict(weights, strict=False).unexpected_keys:
        _put(module, name, weights[name].to(net.device))  # a buffer that training has made
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


def _has_state(value: object) -> bool:
    return hasattr(value, "load_state_dict") and not inspect.isclass(value)


def _noted(callback: object, weights: State) -> dict[str, tuple[str, Any]]:
    """Return what a callback has noted in training: numbers, weights, and where a schedule stands.

    Anything else, and any other tensor, which may hold rows of the table, starts afresh.
    """
    if isinstance(callback, FitCheckpoint):
        return {}
    parameters = inspect.signature(type(callback).__init__).parameters
    noted = {k: v for k, v in vars(callback).items() if k not in parameters}
    found = {name: ("value", value) for name, value in plain_parts(noted).items()}
    for name, value in noted.items():
        if _has_state(value):
            found[name] = ("state", plain_parts(value.state_dict()))
        elif isinstance(value, Mapping) and value and value.keys() <= weights.keys():
            found[name] = ("value", plain(value, True))
    return found


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
    found["initial weights"] = describe(weights)
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
    # A module's weights are told apart.
    is_ours = hasattr(value, "get_params") or kind.startswith("sknoisydim.")
    if is_ours and not (inspect.isclass(value) or isinstance(value, nn.Module)):
        parts = getattr(value, "get_params", lambda **_: vars(value))(deep=False)
        return f"{kind}({', '.join(f'{name}={describe(part)}' for name, part in parts.items())})"
    return re.sub(r" at 0x\w+", "", repr(value))
