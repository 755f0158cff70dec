"""Parameters of a fit: validated numbers, resolved components, and what "auto" means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sknoisydim._optimizers import resolve_optimizer
from sknoisydim._validation import check_integer, check_real
from sknoisydim.augmentations import resolve_augmentation
from sknoisydim.bounds import resolve_bound
from sknoisydim.critics import resolve_critic
from sknoisydim.encoders import resolve_encoder
from sknoisydim.noise import resolve_noise
from sknoisydim.normalization import resolve_normalization

# Components that "auto" takes at most.
AUTO_COMPONENTS = 16


@dataclass(frozen=True)
class EarlyStopping:
    """When to stop on held-out rows."""

    fraction: float
    patience: int
    tol: float


@dataclass(frozen=True)
class Settings:
    """Validated parameters of a fit; components are resolved objects."""

    n_components: int
    noise: Any
    augmentation: Any
    critic: Any
    bound: Any
    clean_weight: float
    supervision: float
    encoder: Any
    normalization: Any
    scaling: Any
    max_epochs: int | None
    batch_size: int
    optimizer: Any
    lr: float
    weight_decay: float
    early_stopping: EarlyStopping | None
    device: torch.device
    foreign: bool


def auto_steps(n_rows: int) -> int:
    """Return the budget of optimisation steps for a table with so many rows.

    Small tables overfit: they need few steps, large ones gain little beyond some thousand.
    """
    return int(np.clip(12 * math.sqrt(n_rows), 200, 2400))


def auto_epochs(n_rows: int, batch_size: int) -> int:
    """Return the epochs that spend the budget of steps, at least one."""
    return max(1, math.ceil(auto_steps(n_rows) / max(1, n_rows // batch_size)))


def resolve_device(device: Any) -> torch.device:
    """Return the torch device; "auto" is CUDA where there is one.

    Raises
    ------
    ValueError
        If torch does not know the device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is unknown; it takes 'auto' or a torch device such as 'cpu' or "
            "'cuda:0'."
        ) from error


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"


def _early_stopping(parameters: Any) -> EarlyStopping | None:
    if not parameters.early_stopping:
        return None
    fraction = check_real(
        parameters.validation_fraction,
        "validation_fraction",
        minimum=0,
        maximum=1,
        closed="neither",
    )
    patience = check_integer(parameters.n_iter_no_change, "n_iter_no_change", minimum=1)
    return EarlyStopping(fraction, patience, check_real(parameters.tol, "tol", minimum=0))


def resolve_settings(parameters: Any, n_features: int) -> Settings:
    """Validate an estimator's parameters and resolve their names.

    Parameters
    ----------
    parameters : NoisyDIMTransformer
        Only its parameters are read.
    n_features : int
        Columns of the table.

    Raises
    ------
    ValueError, TypeError
        With the parameter's name, what came and what is allowed.
    """
    n_components = parameters.n_components
    if _is_auto(n_components):
        n_components = min(n_features, AUTO_COMPONENTS)
    epochs = parameters.max_epochs
    encoder = resolve_encoder(parameters.encoder)
    return Settings(
        n_components=check_integer(n_components, "n_components", minimum=1),
        noise=resolve_noise(parameters.noise),
        augmentation=resolve_augmentation(parameters.augmentation),
        critic=resolve_critic(parameters.critic),
        bound=resolve_bound(parameters.bound),
        clean_weight=check_real(parameters.clean_weight, "clean_weight", minimum=0, maximum=1),
        supervision=check_real(parameters.supervision, "supervision", minimum=0, maximum=1),
        encoder=encoder,
        normalization=resolve_normalization(parameters.normalization),
        scaling=parameters.scaling,
        max_epochs=None if _is_auto(epochs) else check_integer(epochs, "max_epochs", minimum=1),
        batch_size=check_integer(parameters.batch_size, "batch_size", minimum=2),
        optimizer=resolve_optimizer(parameters.optimizer),
        lr=check_real(parameters.lr, "lr", minimum=0, closed="neither"),
        weight_decay=check_real(parameters.weight_decay, "weight_decay", minimum=0),
        early_stopping=_early_stopping(parameters),
        device=resolve_device(parameters.device),
        foreign=not getattr(encoder, "own_generator", False),
    )
