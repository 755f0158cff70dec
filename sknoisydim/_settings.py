"""Parameters of a fit: validated numbers, resolved components, and what "auto" means."""

import contextlib
import copy
import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from sknoisydim._optimizers import resolve_optimizer
from sknoisydim._references import resolve_keep
from sknoisydim._validation import (
    check_boolean,
    check_call,
    check_integer,
    check_name,
    check_real,
    is_auto,
)
from sknoisydim.augmentations import resolve_augmentation
from sknoisydim.bounds import resolve_bound
from sknoisydim.critics import resolve_critic
from sknoisydim.encoders import resolve_encoder
from sknoisydim.noise import resolve_noise
from sknoisydim.normalization import resolve_normalization
from sknoisydim.refinement import resolve_refinement
from sknoisydim.scaling import resolve_scaling

AUTO_COMPONENTS = 16  # at most
# Steps of "auto" for n rows: so many times the root of n, within a range.
AUTO_STEPS, AUTO_RANGE = 2.0, (67, 400)
# What may be done with missing cells.
MISSING: Mapping[str, bool] = {"error": False, "indicator": True}
# Epochs without improvement that `early_stopping=True` waits for, as scikit-learn's networks do.
PATIENCE = 10
# Of the encoder's matrix products; None is float32.
PRECISIONS: Mapping[str, torch.dtype | None] = {"32": None, "bf16": torch.bfloat16}


class Settings(SimpleNamespace):
    """Parameters of a fit, by their names: checked, and components in the place of names.

    `max_epochs` is None for "auto", `early_stopping` None or a number of epochs. With `any_seed` a
    fit goes on from a checkpoint of any seed. `takes_missing`: cells may be missing.
    `uses_global_rng`: the encoder draws from torch's generators. `precision` is the dtype of its
    matrix products in training, None for float32.
    """


def auto_steps(n_rows: int) -> int:
    """Return how many steps to take: small tables overfit, large ones gain little from more."""
    return int(np.clip(AUTO_STEPS * math.sqrt(n_rows), *AUTO_RANGE))


def auto_epochs(n_rows: int, batch_size: int) -> int:
    """Return the epochs that make so many steps, at least one."""
    return max(1, math.ceil(auto_steps(n_rows) / max(1, n_rows // batch_size)))


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the torch device; "auto" is CUDA where there is one."""
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        probe = torch.empty(0, device=torch.device(auto if is_auto(device) else device))
        probe.cpu()  # "meta" holds no numbers that could be read: NotImplementedError
        return probe.device
    # No string: TypeError; no device that this build of torch has: AssertionError.
    except (AssertionError, NotImplementedError, RuntimeError, TypeError) as error:
        # What follows the first sentence are torch's insides, up to 55 lines of them.
        said = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(
            f"device={device!r} is not usable; it takes 'auto' or a torch device of this machine, "
            f"such as 'cpu' or 'cuda:0'. torch says: {said.rstrip('.')}."
        ) from error


def resolve_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype of the matrix products of training where it is not float32."""
    dtype = PRECISIONS[check_name(precision, PRECISIONS, "encoder precision")]
    if device.type == "cuda" and dtype is not None and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"precision='bf16' needs a GPU with bfloat16, and {name} has none.")
    return dtype


def _count(value: object, name: str) -> int | None:
    """Return an integer of at least 1, or None for "auto"."""
    return None if is_auto(value) else check_integer(value, name, minimum=1, also="'auto'")


def _early_stopping(value: object) -> int | None:
    if isinstance(value, (bool, np.bool_)):
        return PATIENCE if value else None
    return check_integer(value, "early_stopping", minimum=1, also="True, False")


def _checkpoint(value: object) -> Path | None:
    if value is None:
        return None
    message = f"checkpoint must be None or the path of a folder, got {value!r}."
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{message} A Checkpoint of skorch goes to callbacks=[...].")
    folder = Path(value)
    if not os.fspath(value) or (folder.exists() and not folder.is_dir()):
        raise ValueError(message)
    return folder


def resolve_callbacks(callbacks: object) -> list[Any]:
    """Return copies of callbacks, which a fit changes; what cannot be copied is shared."""
    if callbacks is None:
        return []
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"callbacks must be None or a list of skorch callbacks, got {callbacks!r}.")
    copies: list[Any] = []
    for item in callbacks:
        *name, callback = item if isinstance(item, tuple) else (item,)
        if not callable(getattr(callback, "on_epoch_end", None)):
            taken = "it takes skorch callbacks, or (name, callback)."
            raise TypeError(f"callbacks holds {item!r}; {taken}")
        copied = copy.copy(callback)
        parts, memo = getattr(copied, "__dict__", {}), {id(callback): copied}
        for attribute, part in parts.items():
            with contextlib.suppress(Exception):  # of a user's object, which may raise anything
                parts[attribute] = copy.deepcopy(part, memo)
        copies.append((*name, copied) if name else copied)
    return copies


def _augmentation(value: object) -> object:
    view = resolve_augmentation(value)
    check_call(view, f"augmentation={value!r}", "batch", "generator")
    return view


def _encoder(value: object) -> object:
    if callable(value) and not hasattr(value, "build"):
        check_call(value, f"encoder={value!r}", "n_features", "n_components")
    return resolve_encoder(value)


# What a parameter by itself becomes.
RESOLVERS: Mapping[str, Callable[[Any], object]] = {
    "noise": resolve_noise,
    "augmentation": _augmentation,
    "critic": resolve_critic,
    "bound": resolve_bound,
    "encoder": _encoder,
    "normalization": resolve_normalization,
    "scaling": resolve_scaling,
    "refine": resolve_refinement,
    "optimizer": resolve_optimizer,
    "callbacks": resolve_callbacks,
    "checkpoint": _checkpoint,
    "early_stopping": _early_stopping,
    "device": resolve_device,
    "keep": resolve_keep,
    "n_components": partial(_count, name="n_components"),
    "max_epochs": partial(_count, name="max_epochs"),
    "batch_size": partial(check_integer, name="batch_size", minimum=2),
    "lr": partial(check_real, name="lr", minimum=0, closed="neither"),
    "clean_weight": partial(check_real, name="clean_weight", minimum=0, maximum=1),
    "keep_weight": partial(check_real, name="keep_weight", minimum=0),
    "supervision": partial(check_real, name="supervision", minimum=0),
    "match_weight": partial(check_real, name="match_weight", minimum=0),
    "missing": partial(check_name, table=MISSING, parameter="missing"),
    "warm_start": partial(check_boolean, name="warm_start"),
}


def resolve_settings(parameters: BaseEstimator, n_features: int) -> Settings:
    """Validate an estimator's parameters and resolve their names."""
    given = parameters.get_params(deep=False)
    found: dict[str, Any] = {name: resolve(given[name]) for name, resolve in RESOLVERS.items()}
    if not isinstance(given["verbose"], (bool, np.bool_)):
        check_integer(given["verbose"], "verbose", minimum=0)
    precision = getattr(found["encoder"], "precision", "32")
    found["n_components"] = found["n_components"] or min(n_features, AUTO_COMPONENTS)
    found["keep"] = found["keep"] if found["keep_weight"] > 0 else None
    return Settings(
        **found,
        takes_missing=MISSING[found["missing"]],
        any_seed=given["random_state"] is None,
        uses_global_rng=not getattr(found["encoder"], "own_generator", False),
        precision=resolve_precision(precision, found["device"]),
    )
