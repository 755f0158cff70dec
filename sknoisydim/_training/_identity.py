"""What makes one fit another one than the next: parameters, rows, weights and versions."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from sknoisydim._data import Table
from sknoisydim._settings import Settings
from sknoisydim._version import __version__

# Bytes of a table that are looked at: all of a smaller one.
HASHED_BYTES = 2**26
# Bytes that are read at once.
BLOCK_BYTES = 2**22
# What says all in its own words.
PLAIN = (bool, int, float, complex, str, bytes, slice, range)
KINDS = (np.dtype, torch.dtype, torch.device)
# Settings that say nothing of the epochs, or are told in another way.
APART = {"checkpoint", "device", "refine", "validation_fraction"}


def identity(
    settings: Settings, table: Table, validation: Table | None, module: nn.Module
) -> dict[str, str]:
    """Return what all epochs follow from, in words and digests, by the user's names.

    Parameters
    ----------
    settings : Settings
    table, validation : Table
        Rows to train on, and to evaluate on.
    module : nn.Module
        With the weights that training starts from: it stands for the code that makes them, and for
        the fit that a warm start goes on from.
    """
    found = {
        field.name: describe(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if field.name not in APART
    }
    found["device"] = str(settings.device)
    # The map itself comes after the epochs, but whether there is one changes their objective.
    found["refine"] = "None" if settings.refine is None else "set"
    if validation is None:
        found["validation_fraction"] = describe(settings.validation_fraction)
    for rows, suffix in ((table, ""), (validation, "_val")):
        if rows is not None:
            found[f"X{suffix}"] = _describe_rows(rows)
            found[f"y{suffix}"] = describe(rows.targets)
    found["sample_weight"] = describe(table.weights)
    found["initial weights"] = _digest(
        _bytes(value) for value in module.state_dict().values() if isinstance(value, torch.Tensor)
    )
    found["sknoisydim"] = __version__
    return found | {name: importlib.metadata.version(name) for name in ("torch", "skorch")}


def describe(value: Any, around: tuple[Any, ...] = ()) -> str:
    """Return a text that is the same for equal values in any process: no address is in it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (*PLAIN, *KINDS)):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} {_digest([_bytes(value)])}"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"{value.dtype} {value.shape} {_digest([value])}"
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
    if any(value is other for other in around):
        return "itself"
    inside = functools.partial(describe, around=(*around, value))
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {inside(value.tolist())}"
    if isinstance(value, np.random.RandomState):
        return inside(value.get_state())
    if isinstance(value, np.random.Generator):
        return inside(value.bit_generator.state)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(inside, value))}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(inside, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{inside(k)}: {inside(v)}' for k, v in value.items())}}}"
    if isinstance(value, functools.partial):
        return f"partial({inside([value.func, *value.args])}, {inside(value.keywords)})"
    parts = ", ".join(f"{name}={inside(part)}" for name, part in sorted(_parts(value).items()))
    return f"{type(value).__module__}.{type(value).__qualname__}({parts})"


def _parts(value: Any) -> dict[str, Any]:
    if isinstance(value, nn.Module):
        return {}  # its weights are told with all others
    if hasattr(value, "get_params"):
        try:
            return dict(value.get_params(deep=False))
        except (AttributeError, RuntimeError, TypeError):  # a callback that keeps no parameters
            return {}
    parts = dict(getattr(value, "__dict__", {}))
    if type(value).__module__.startswith("sknoisydim."):
        return parts
    # What a user's object holds besides may be anything, and another thing each time.
    return {k: v for k, v in parts.items() if isinstance(v, (bool, int, float, str))}


def _describe_rows(table: Table) -> str:
    """Describe rows by all of them, or by some at even distances where the table is large."""
    X, n_rows = table.X, len(table)
    row_bytes = max(1, X.shape[1] * X.dtype.itemsize)
    count = max(1, min(n_rows, HASHED_BYTES // row_bytes))
    positions = np.linspace(0, n_rows - 1, count).round().astype(np.int64)
    step = max(1, BLOCK_BYTES // row_bytes)
    blocks = (X[positions[start : start + step]] for start in range(0, count, step))
    return f"{X.dtype} {(n_rows, *(table.shape or X.shape[1:]))} {_digest(blocks)}"


def _digest(arrays: Iterable[np.ndarray]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        # As bytes: a buffer of dates, say, is none to Python.
        total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return f"sha256:{total.hexdigest()[:16]}"


def _bytes(value: torch.Tensor) -> np.ndarray:
    """Return the bytes of a tensor: numpy does not know bfloat16."""
    flat = value.detach().cpu().reshape(-1)
    return flat.view(torch.uint8).numpy() if len(flat) else np.empty(0, np.uint8)
