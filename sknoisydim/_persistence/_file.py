"""One file: a safetensors container, whose every byte is covered by a digest."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from sknoisydim._files import write_bytes
from sknoisydim._version import __version__

FORMAT, FORMAT_VERSION = "sknoisydim", 3
BLANK = "0" * 64  # in the place of the digest while it is computed
LIBRARIES = ("numpy", "scipy", "scikit-learn", "skorch", "torch")


def write(
    path: str | os.PathLike[str], header: Mapping[str, object], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a file, all of it or nothing."""
    versions = {"sknoisydim": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    metadata = {"sha256": BLANK, "format": FORMAT, "format_version": str(FORMAT_VERSION)}
    metadata |= {n: json.dumps(value) for n, value in {**header, "versions": versions}.items()}
    # The library takes the bytes as they lie, and writes metadata in an order that changes.
    data = safetensors.numpy.save({n: np.asarray(array, order="C") for n, array in arrays.items()})
    start = 8 + int.from_bytes(data[:8], "little")
    text = json.dumps({"__metadata__": metadata, **json.loads(data[8:start])}).encode()
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + data[start:]
    write_bytes(path, data.replace(BLANK.encode(), _digest(data, BLANK).encode(), 1))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a whole file of ours, of this format."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is not a file.")
    try:
        with safetensors.safe_open(path, "numpy") as file:  # reads no more than the header
            metadata = file.metadata() or {}
    except safetensors.SafetensorError:
        metadata = {}
    if metadata.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a file that sknoisydim saved, or a part is missing.")
    data, digest = Path(path).read_bytes(), metadata.pop("sha256", "")
    if _digest(data, digest) != digest:
        raise ValueError(f"{path} is damaged: its bytes are not those that were saved.")
    version = metadata.get("format_version")
    if version != str(FORMAT_VERSION):
        raise ValueError(
            f"{path} has the format version {version}, and sknoisydim {__version__} reads version "
            f"{FORMAT_VERSION}. Load it with what saved it: {metadata.get('versions')}."
        )
    try:
        header = {name: json.loads(value) for name, value in metadata.items()}
        return header, safetensors.numpy.load(data)
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _digest(data: bytes, digest: str) -> str:
    """Return the digest of a file whose own digest is left blank."""
    return hashlib.sha256(data.replace(digest.encode(), BLANK.encode(), 1)).hexdigest()
