"""Parameters of a fit: validated numbers, resolved components, and what "auto" means."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from sknoisydim._optimizers import resolve_optimizer
from sknoisydim._references import resolve_keep
from sknoisydim._validation import check_boolean, check_integer, check_name, check_real, is_auto
from sknoisydim.augmentations import resolve_augmentation
from sknoisydim.bounds import resolve_bound
from sknoisydim.critics import resolve_critic
from sknoisydim.encoders import resolve_encoder
from sknoisydim.noise import resolve_noise
from sknoisydim.normalization import resolve_normalization
from sknoisydim.refinement import resolve_refinement
from sknoisydim.scaling import resolve_scaling

# Components that "auto" takes at most.
AUTO_COMPONENTS = 16

# Steps of "auto" for n rows: so many times the root of n, within a range.
AUTO_STEPS, AUTO_RANGE = 2.0, (67, 400)

# What may be done with missing cells.
MISSING: Mapping[str, bool] = {"error": False, "indicator": True}

# Epochs without improvement that `early_stopping=True` waits for, as scikit-learn's networks do.
PATIENCE = 10

# What the encoder's matrix products are taken in; None is float32.
PRECISIONS: Mapping[str, torch.dtype | None] = {"32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Checkpointing:
    """Where a fit writes its state, and whether it takes over the seed of one that was there."""

    folder: Path
    any_seed: bool


@dataclass(frozen=True)
class Settings:
    """Validated parameters of a fit; components are resolved objects.

    `early_stopping` is a number of epochs.
    """

    n_components: int
    noise: Any
    augmentation: Any
    critic: Any
    bound: Any
    clean_weight: float
    keep: Any
    keep_weight: float
    supervision: float
    match_weight: float
    encoder: Any
    normalization: Any
    scaling: Any
    missing: str
    refine: Any
    max_epochs: int | None
    batch_size: int
    optimizer: Any
    lr: float
    early_stopping: int | None
    device: torch.device
    uses_global_rng: bool
    callbacks: list[Any]
    warm_start: bool
    checkpoint: Checkpointing | None
    precision: torch.dtype | None

    @property
    def takes_missing(self) -> bool:
        """Whether cells may be missing."""
        return MISSING[self.missing]


def auto_steps(n_rows: int) -> int:
    """Return the budget of optimisation steps for a table with so many rows.

    Small tables overfit: they need few steps, large ones gain little beyond some hundred.
    """
    return int(np.clip(AUTO_STEPS * math.sqrt(n_rows), *AUTO_RANGE))


def auto_epochs(n_rows: int, batch_size: int) -> int:
    """Return the epochs that spend the budget of steps, at least one."""
    return max(1, math.ceil(auto_steps(n_rows) / max(1, n_rows // batch_size)))


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device; "auto" is CUDA where there is one."""
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        # torch knows names of devices that are not there, and says so in an AssertionError; of
        # one that holds no numbers, "meta", when they are read.
        probe = torch.empty(0, device=torch.device(auto if is_auto(device) else device))
        probe.cpu()
        return probe.device
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is not usable; it takes 'auto' or a torch device of this machine, "
            f"such as 'cpu' or 'cuda:0'. torch says: {error}"
        ) from error


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of the matrix products of training where it is not float32."""
    check_name(precision, PRECISIONS, "encoder precision")
    if device.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"precision='bf16' needs a GPU with bfloat16, and {name} has none.")
    return PRECISIONS[precision]


def _early_stopping(value: object) -> int | None:
    if isinstance(value, (bool, np.bool_)):
        return PATIENCE if value else None
    return check_integer(value, "early_stopping", minimum=1, also="True, False")


def _checkpointing(parameters: BaseEstimator) -> Checkpointing | None:
    checkpoint = parameters.checkpoint
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, (str, os.PathLike)):
        raise TypeError(
            f"checkpoint must be None or the path of a folder, got {checkpoint!r}. A Checkpoint of "
            "skorch goes to callbacks=[...]."
        )
    folder = Path(checkpoint)
    if not os.fspath(checkpoint) or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"checkpoint must be None or the path of a folder, got {checkpoint!r}.")
    return Checkpointing(folder, parameters.random_state is None)


def check_verbose(verbose: object) -> None:
    """See that progress can be reported."""
    if not isinstance(verbose, (bool, np.bool_)):
        check_integer(verbose, "verbose", minimum=0)


def resolve_callbacks(callbacks: object) -> list[Any]:
    """Return copies of callbacks: a fit initialises them, and they remember it.

    What in one cannot be copied, such as an open file or a writer of logs, is shared by all copies:
    it is where a user wants to find what was written.
    """
    if callbacks is None:
        return []
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks must be None or a list of skorch callbacks, got {callbacks!r}.")
    for item in callbacks:
        callback = item[-1] if isinstance(item, tuple) else item
        if not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(
                f"callbacks holds {item!r}; it takes skorch callbacks, or (name, callback)."
            )
    return [
        (*item[:-1], _copied(item[-1])) if isinstance(item, tuple) else _copied(item)
        for item in callbacks
    ]


def _copied(value: object) -> object:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 (the copying of a user's object may raise anything)
        try:
            copied = copy.copy(value)
        except Exception as error:  # which may be anything, too
            raise TypeError(
                f"callbacks holds {value!r}, which cannot be copied, and a fit works on copies: "
                "pass its class, or give it a __copy__."
            ) from error
    memo: dict[int, Any] = {}
    for name, part in vars(copied).items():
        with contextlib.suppress(Exception):
            vars(copied)[name] = copy.deepcopy(part, memo)
    return copied


def resolve_settings(parameters: BaseEstimator, n_features: int) -> Settings:
    """Validate an estimator's parameters and resolve their names."""
    n_components = parameters.n_components
    if is_auto(n_components):
        n_components = min(n_features, AUTO_COMPONENTS)
    epochs = parameters.max_epochs
    device = resolve_device(parameters.device)
    encoder = resolve_encoder(parameters.encoder)
    keep_weight = check_real(parameters.keep_weight, "keep_weight", minimum=0)
    keep = resolve_keep(parameters.keep)
    check_verbose(parameters.verbose)
    return Settings(
        n_components=check_integer(n_components, "n_components", minimum=1, also="'auto'"),
        noise=resolve_noise(parameters.noise),
        augmentation=resolve_augmentation(parameters.augmentation),
        critic=resolve_critic(parameters.critic),
        bound=resolve_bound(parameters.bound),
        clean_weight=check_real(parameters.clean_weight, "clean_weight", minimum=0, maximum=1),
        keep=keep if keep_weight > 0 else None,
        keep_weight=keep_weight,
        supervision=check_real(parameters.supervision, "supervision", minimum=0),
        match_weight=check_real(parameters.match_weight, "match_weight", minimum=0),
        encoder=encoder,
        normalization=resolve_normalization(parameters.normalization),
        scaling=resolve_scaling(parameters.scaling),
        missing=check_name(parameters.missing, MISSING, "missing"),
        refine=resolve_refinement(parameters.refine),
        max_epochs=None
        if is_auto(epochs)
        else check_integer(epochs, "max_epochs", minimum=1, also="'auto'"),
        batch_size=check_integer(parameters.batch_size, "batch_size", minimum=2),
        optimizer=resolve_optimizer(parameters.optimizer),
        lr=check_real(parameters.lr, "lr", minimum=0, closed="neither"),
        early_stopping=_early_stopping(parameters.early_stopping),
        device=device,
        uses_global_rng=not getattr(encoder, "own_generator", False),
        callbacks=resolve_callbacks(parameters.callbacks),
        warm_start=check_boolean(parameters.warm_start, "warm_start"),
        checkpoint=_checkpointing(parameters),
        precision=resolve_precision(getattr(encoder, "precision", "32"), device),
    )
