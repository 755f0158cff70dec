"""One file: a safetensors container, whose every byte is covered by a digest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import stat
from collections.abc import Mapping
from typing import Any

import numpy as np

from sknoisydim._files import write_bytes
from sknoisydim._version import __version__

FORMAT = "sknoisydim"
#: The version of the format that is written, and read.
FORMAT_VERSION = 3
# As safetensors has it.
LARGEST_HEADER = 100_000_000
KINDS = {"BOOL": "b1", "F16": "f2", "F32": "f4", "F64": "f8"}
KINDS |= {f"{kind}{8 * size}": f"{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}
# Stands in the place of the digest while it is computed.
BLANK = "0" * 64
LIBRARIES = ("numpy", "scipy", "scikit-learn", "skorch", "torch")


def write(
    path: str | os.PathLike[str], header: Mapping[str, object], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write a file, all of it or nothing."""
    versions = {"sknoisydim": __version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    metadata = {name: json.dumps(value) for name, value in {**header, "versions": versions}.items()}
    metadata |= {"format": FORMAT, "format_version": str(FORMAT_VERSION), "sha256": BLANK}
    head: dict[str, Any] = {"__metadata__": metadata}
    names, body = {np.dtype(code): name for name, code in KINDS.items()}, b""
    # The widest first, so that each begins at a multiple of its width.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        place = [len(body), len(body) + array.nbytes]
        body += array.tobytes()
        kind, shape = names[array.dtype], list(array.shape)
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": place}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if text.count(_seal(BLANK)) != 1:
        raise ValueError("the digest has no place of its own in the header.")
    write_bytes(path, _length(text), text.replace(_seal(BLANK), _seal(_digest(text, body))), body)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the arrays of a whole file of ours, of this format."""
    head, body = _sealed(path)
    metadata = head.pop("__metadata__")
    version, saved_by = metadata.get("format_version"), metadata.get("versions")
    if version != str(FORMAT_VERSION):
        raise ValueError(
            f"{path} has the format version {version}, and this is sknoisydim {__version__}, which "
            f"reads version {FORMAT_VERSION}. Load it with what saved it: {saved_by}."
        )
    try:
        header = {n: json.loads(v) for n, v in metadata.items() if n not in ("format", "sha256")}
        arrays = {}
        for name, node in head.items():
            start, end = node["data_offsets"]
            kind, shape = np.dtype(KINDS[node["dtype"]]), node["shape"]
            if (
                not 0 <= start <= end <= len(body)
                or end - start != math.prod(shape) * kind.itemsize
            ):
                raise ValueError(f"{node} is no array of the file.")
            arrays[name] = np.frombuffer(body[start:end], kind).reshape(shape)
    except (LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    return header, arrays


def _sealed(path: str | os.PathLike[str]) -> tuple[dict[str, Any], bytes]:
    """Return the header and the bytes of the arrays, once they are known to be what was written."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is not a file.")
    with open(path, "rb") as file:
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        text = file.read(length) if 2 <= length <= min(size - 8, LARGEST_HEADER) else b""
        try:
            head = json.loads(text)
            metadata = {str(name): str(value) for name, value in head["__metadata__"].items()}
            ours = metadata == head["__metadata__"] and metadata["format"] == FORMAT
        except (AttributeError, LookupError, TypeError, RecursionError, ValueError):
            ours = False
        if not ours:
            raise ValueError(f"{path} is not a file that sknoisydim saved, or a part is missing.")
        body = file.read()
    digest = metadata.get("sha256", "")
    blank = text.replace(_seal(digest), _seal(BLANK))
    if text.count(_seal(digest)) != 1 or _digest(blank, body) != digest:
        raise ValueError(f"{path} is damaged: its bytes are not those that were saved.")
    return head, body


def _seal(digest: str) -> bytes:
    return f'"sha256":"{digest}"'.encode()


def _length(text: bytes) -> bytes:
    return len(text).to_bytes(8, "little")


def _digest(text: bytes, body: bytes) -> str:
    return hashlib.sha256(_length(text) + text + body).hexdigest()
