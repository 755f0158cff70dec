"""Where a fit stands, in a file from which it goes on after a kill.

Its first line has the format and a digest of the rest, which `torch.save` has made of tensors and
plain Python: reading it, with `weights_only=True`, runs no code.
"""

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

import torch
from skorch import NeuralNet

from sknoisydim._data import Batches
from sknoisydim._files import write_bytes
from sknoisydim._modules import global_rng_states, set_global_rng_states
from sknoisydim._settings import Settings

from ._callbacks import Quiet
from ._warm_start import State, plain, plain_parts, restore_schedules, schedule_states

#: The name of the file in its folder.
NAME = "fit.checkpoint"
FORMAT = "sknoisydim checkpoint 4"
# Seconds from one writing to the next, at least, and the share of the time that writing may take:
# a small network is written in milliseconds, and an epoch of it may take no longer.
SECONDS, SHARE = 10.0, 0.05


class FitCheckpoint(Quiet):
    """Write where training stands at the end of epochs, and go on from there.

    It is the last of the callbacks: of the others it writes what they have noted of the epoch.
    """

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
    return plain_parts(noted) | {
        name: value
        for name, value in noted.items()
        if isinstance(value, Mapping) and value.keys() <= weights.keys()
    }


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
