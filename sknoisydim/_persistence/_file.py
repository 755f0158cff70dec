"""One file: a safetensors container whose every byte is covered by a digest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np

from sknoisydim._files import replacing
from sknoisydim._version import __version__

FORMAT = "sknoisydim"
#: Written by this version; every version up to it is read.
FORMAT_VERSION = 1
# safetensors itself takes no longer header.
LARGEST_HEADER = 100_000_000
# Stands in the place of the digest while it is computed.
BLANK = "0" * 64
LIBRARIES = ("numpy", "scipy", "scikit-learn", "skorch", "torch")


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            'save and load need safetensors: pip install "sknoisydim[safe]".'
        ) from error
    return safetensors.numpy


def versions() -> dict[str, str]:
    """Return the versions of what a fit depends on."""
    found = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {"sknoisydim": __version__, "python": platform.python_version(), **found}


def write(path: Any, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file, all of it or nothing.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the folder cannot be written to.
    """
    metadata = {name: json.dumps(value) for name, value in header.items()}
    metadata |= {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "versions": json.dumps(versions()),
        "sha256": BLANK,
    }
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():  # ascontiguousarray makes a row of a number
        contiguous[name] = contiguous[name].reshape(array.shape)
    data = _in_order(_safetensors().save(contiguous, metadata=metadata))
    blank, seal = f'"sha256":"{BLANK}"'.encode(), f'"sha256":"{_digest(data)}"'.encode()
    if data.count(blank, 0, _header_end(data)) != 1:
        raise ValueError("the digest has no place of its own in the header.")
    replace(path, data.replace(blank, seal, 1))


def _in_order(data: bytes) -> bytes:
    """Sort the header, which safetensors writes in any order: equal models have equal files."""
    end = _header_end(data)
    head = json.dumps(json.loads(data[8:end]), sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data[end:]


def replace(path: Any, data: bytes) -> None:
    """Put a file in the place of another at once: whatever happens, one of the two is there."""
    with replacing(path) as part, open(part, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read(path: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a file.

    Raises
    ------
    ImportError
        If safetensors is not installed.
    OSError
        If the file cannot be read.
    ValueError
        If it is not a whole file of ours, or a newer version's.
    """
    safetensors = _safetensors()
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is not a file.")
    metadata, data = _sealed(path)
    version = metadata.get("format_version", "")
    if not version.isdecimal() or int(version) > FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format version {version!r}, and sknoisydim {__version__} reads "
            f"versions up to {FORMAT_VERSION}: it was saved by a newer one."
        )
    try:
        arrays = safetensors.load(data)
        header = {
            name: json.loads(value)
            for name, value in metadata.items()
            if name not in ("format", "sha256")
        }
    except (KeyError, OverflowError, RecursionError, ValueError, _error()) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return header, arrays


def _error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _sealed(path: Any) -> tuple[dict[str, str], bytes]:
    """Return the metadata and the bytes of a file, once they are known to be what was written."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, LARGEST_HEADER):
            raise ValueError(f"{path} is not a file that sknoisydim saved, or a part is missing.")
        head = file.read(length)
        metadata = _metadata(path, head)
        data = length.to_bytes(8, "little") + head + file.read()
    digest = metadata.get("sha256", "")
    seal, blank = f'"sha256":"{digest}"'.encode(), f'"sha256":"{BLANK}"'.encode()
    if data.count(seal, 0, _header_end(data)) != 1 or (
        _digest(data.replace(seal, blank, 1)) != digest
    ):
        raise ValueError(
            f"{path} is damaged: its digest is not that of its bytes. Some were changed, added or "
            "lost since it was saved."
        )
    return metadata, data


def _metadata(path: Any, head: bytes) -> dict[str, str]:
    try:
        metadata = json.loads(head)["__metadata__"]
    except (KeyError, TypeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not a file that sknoisydim saved: {error!r}") from error
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    if not texts or metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a file that sknoisydim saved.")
    return metadata


def _header_end(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
