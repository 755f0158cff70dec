"""What a fit follows from, in words: whether two fits are one."""

import hashlib
import importlib.metadata
import inspect
import re

import numpy as np
import torch

from sknoisydim._data import Table
from sknoisydim._settings import Settings
from sknoisydim._version import __version__

# Bytes of a table that are looked at: all of a smaller one.
HASHED_BYTES = 2**26
# Settings that say nothing of the epochs, or are told in another way.
APART = {"any_seed", "checkpoint", "refine", "takes_missing"}


def identity(
    settings: Settings, table: Table, validation: Table | None, module: torch.nn.Module
) -> dict[str, str]:
    """Return what all epochs follow from, in words and digests, by the user's names.

    The weights of `module` stand for what makes them, and for what a warm start goes on from.
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
    found["initial weights"] = describe([*module.parameters(), *module.buffers()])
    found["sknoisydim"] = __version__
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
