"""The checkpoint of a fit: a file from which the same fit goes on after its process was killed.

It is written by `torch.save` and read with `weights_only=True`: tensors and plain Python, so that
reading runs no code, and nothing beyond torch is needed (safetensors is an extra, and has no place
for the nested state of an optimizer). A digest covers every byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pickle
import secrets
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sknoisydim._files import replacing

from ._callbacks import Quiet
from ._position import go_to, position

#: The name of the file in its folder.
NAME = "fit.checkpoint"
FORMAT_VERSION = 1
# Seconds from one writing to the next, at least, and the share of the time that writing may take:
# a small network is written in milliseconds, and an epoch of it may take no longer.
SECONDS = 10.0
SHARE = 0.05
# The head names parameters; a line that is longer is none.
LONGEST_HEAD = 2**20
# Characters of a description that a message shows.
SHOWN = 80


class Saved(NamedTuple):
    """What a file holds: its head, and the position of training as `torch.save` wrote it."""

    head: Mapping[str, Any]
    body: bytes


class FitCheckpoint(Quiet):
    """Write where training stands at the end of epochs, and go on from there.

    It is the last of the callbacks: of the others it writes what they have noted of the epoch.

    Parameters
    ----------
    folder : Path
        Of one fit; it is made when it is not there.
    foreign : bool
        Whether torch's global generators are ours for the time of training.

    Raises
    ------
    OSError
        If there is a checkpoint that cannot be read.
    ValueError
        If a newer version wrote it.

    Warns
    -----
    RuntimeWarning
        If it is damaged. Training then starts from the beginning: each writing replaces the file
        as a whole, so there is no older one.
    """

    def __init__(self, folder: Path, foreign: bool) -> None:
        self.folder = folder
        self.foreign = foreign
        self.path = folder / NAME
        self.saved = _read(self.path)
        self.token = secrets.token_hex(8)
        # Writers whose file may be replaced: itself, and the one that it goes on from.
        self.known = {self.token, _writer(self.path)}
        self.warned = False
        self.due = 0.0

    def seed_for(self, drawn: int, free: bool) -> int:
        """Return the seed of this fit: where it is free, that of the fit that is there, if any."""
        self.seed = int(self.saved.head["seed"]) if free and self.saved is not None else drawn
        return self.seed

    @property
    def n_epochs(self) -> int:
        """Epochs that need not be run again."""
        return 0 if self.saved is None else int(self.saved.head["epoch"])

    def claim(self, identity: Mapping[str, str]) -> None:
        """See that a checkpoint that is there belongs to this fit.

        Parameters
        ----------
        identity : dict of str to str
            What makes this fit another one, by name, beside its seed.

        Raises
        ------
        ValueError
            If it belongs to another fit.
        """
        identity = {**identity, "random_state": f"of seed {self.seed}"}
        self.head = {"identity": identity, "seed": self.seed, "token": self.token}
        if self.saved is not None:
            other = self.saved.head["identity"]
            differing = [n for n in identity | other if identity.get(n) != other.get(n)]
            if differing:
                # The weights that training starts from follow from all the rest.
                named = [n for n in differing if n != "initial weights"] or differing
                told = "; ".join(_change(n, other.get(n), identity.get(n)) for n in named)
                raise ValueError(
                    f"checkpoint={str(self.folder)!r} holds a fit that has not ended, and it is "
                    f"another one: {told}. Use another folder, or delete {self.path} to give up "
                    "that fit."
                )
        with contextlib.suppress(OSError):  # of a process that was killed while writing
            for part in self.folder.glob(f".{NAME}.*.part"):
                part.unlink()

    def begin(self, net: Any, batches: Any) -> None:
        """Go on from the checkpoint, or write the first one: who cannot write says so at once."""
        if self.saved is None:
            self._write(net, batches.generator)
            return
        try:
            state = torch.load(io.BytesIO(self.saved.body), weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{self.path} holds something else than tensors and plain Python, which a fit does "
                "not write. Delete it."
            ) from error
        go_to(net, batches.generator, state)
        self.saved = None
        self.due = time.monotonic() + SECONDS

    def on_epoch_end(self, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
        if time.monotonic() >= self.due:
            self._write(net, dataset_train.generator)

    def remove(self) -> None:
        """Take the checkpoint away: the fit has ended, and the next one trains afresh."""
        try:
            if _writer(self.path) in self.known:
                self.path.unlink(missing_ok=True)
        except OSError as error:
            self._warn(f"{self.path} of a fit that has ended cannot be removed", error)

    def _write(self, net: Any, shuffle: torch.Generator) -> None:
        started = time.monotonic()
        body = io.BytesIO()
        torch.save(position(net, shuffle, self.foreign), body)
        head = json.dumps({**self.head, "epoch": len(net.history)}).encode() + b"\n"
        digest = hashlib.sha256(head + body.getbuffer()).hexdigest().encode() + b"\n"
        try:
            self._check_alone()
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as part, open(part, "xb") as file:
                for piece in (_first_line(FORMAT_VERSION), digest, head, body.getbuffer()):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            there = "the last good one stays" if self.path.exists() else "there is none"
            self._warn(
                f"the checkpoint {self.path} cannot be written, training goes on, and {there}",
                error,
            )
        ended = time.monotonic()
        self.due = ended + max(SECONDS, (ended - started) / SHARE)

    def _check_alone(self) -> None:
        writer = _writer(self.path)
        if writer is not None and writer not in self.known:
            raise ValueError(
                f"another fit writes to checkpoint={str(self.folder)!r} at the same time: a folder "
                "is for one fit. Use another one; in a grid search, None."
            )

    def _warn(self, message: str, error: OSError) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(f"{message}: {error}", RuntimeWarning, stacklevel=2)


def _first_line(version: int) -> bytes:
    return f"sknoisydim checkpoint {version}\n".encode()


def _writer(path: Path) -> str | None:
    """Return who wrote a file, where that can be told."""
    try:
        with open(path, "rb") as file:
            head = [file.readline(LONGEST_HEAD) for _ in range(3)][-1]
    except (FileNotFoundError, NotADirectoryError):
        return None
    with contextlib.suppress(KeyError, RecursionError, TypeError, ValueError):
        return str(json.loads(head)["token"])
    return None


def _read(path: Path) -> Saved | None:
    """Return what a file holds, or None without one, or with a damaged one."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    first, _, rest = data.partition(b"\n")
    version = first.removeprefix(b"sknoisydim checkpoint ")
    if version != first and version.isdigit() and int(version) > FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format version {int(version)}, and this version of sknoisydim reads "
            f"{FORMAT_VERSION}: a newer one wrote it. Use that, or another folder."
        )
    digest, _, rest = rest.partition(b"\n")
    if first + b"\n" == _first_line(FORMAT_VERSION) and (
        digest == hashlib.sha256(rest).hexdigest().encode()
    ):
        head, _, body = rest.partition(b"\n")
        return Saved(json.loads(head), body)
    warnings.warn(
        f"the checkpoint {path} is damaged: training starts from the beginning.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _change(name: str, *values: str | None) -> str:
    """Say what a thing was and is; of long descriptions, around where they part."""
    old, new = (text or "not there" for text in values)
    start = 0
    if max(len(old), len(new)) > SHOWN:
        pairs = enumerate(zip(old, new, strict=False))
        parting = next((i for i, (a, b) in pairs if a != b), min(len(old), len(new)))
        start = max(0, parting - SHOWN // 2)
    old, new = (
        ("..." if start else "")
        + text[start : start + SHOWN]
        + ("..." if len(text) > start + SHOWN else "")
        for text in (old, new)
    )
    return f"{name} was {old} and is {new}"
