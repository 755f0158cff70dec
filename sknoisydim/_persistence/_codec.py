"""Values as JSON and arrays, and back: what a file can say, and nothing that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

JSON = Any

# Numbers of a list from which on they are kept as an array: exact, and a third of the text.
LONG = 16


class Unknown(Exception):
    """A value that JSON and arrays cannot say."""


class Kind(NamedTuple):
    """One kind of value: how it is told from others, written and read."""

    matches: Callable[[Any], bool]
    write: Callable[[Any, Writer, str], JSON]
    read: Callable[[JSON, Reader], Any]


class Writer:
    """Turn values into JSON, and collect their arrays.

    Parameters
    ----------
    kinds : mapping of str to Kind
        Everything beyond numbers, strings, lists and arrays.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Named by the path of the value that holds them.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.kinds = kinds
        self.arrays: dict[str, np.ndarray] = {}

    def write(self, value: Any, path: str) -> JSON:
        """Return JSON for a value.

        Raises
        ------
        Unknown
            If it is of no kind that is known, or holds such a value.
        """
        if value is None or type(value) in (bool, int):
            return value
        if isinstance(value, str):
            return str(value)
        if type(value) is float and np.isfinite(value):
            return value
        if type(value) is list and not _is_long(value):
            return [self.write(item, f"{path}.{i}") for i, item in enumerate(value)]
        for tag, kind in {**BASIC, **self.kinds}.items():
            if kind.matches(value):
                return {"is": tag, "of": kind.write(value, self, path)}
        raise Unknown(f"{path} is a {type(value).__module__}.{type(value).__qualname__}")

    def array(self, value: np.ndarray, path: str) -> str:
        """Keep an array, and return the name that it is kept by."""
        name = path
        while name in self.arrays:
            name += "'"
        self.arrays[name] = value
        return name


class Reader:
    """Turn JSON and arrays back into values: the inverse of `Writer`.

    Parameters
    ----------
    kinds : mapping of str to Kind
        As of the writer.
    arrays : mapping of str to ndarray
        Of the writer; each is copied when it is used.
    """

    def __init__(self, kinds: Mapping[str, Kind], arrays: Mapping[str, np.ndarray]) -> None:
        self.kinds = kinds
        self.arrays = arrays

    def read(self, node: JSON) -> Any:
        """Return the value that JSON stands for.

        Raises
        ------
        LookupError, TypeError, ValueError
            If it stands for none.
        """
        if isinstance(node, list):
            return [self.read(item) for item in node]
        if not isinstance(node, dict):
            return node
        kind = BASIC.get(node["is"]) or self.kinds[node["is"]]
        return kind.read(node["of"], self)

    def array(self, name: str) -> np.ndarray:
        """Return a copy of an array, which may be read-only or a view of a file."""
        return np.array(self.arrays[name], order="C")


def _is_long(value: Any) -> bool:
    kinds = {type(item) for item in value} if len(value) >= LONG else set()
    if kinds == {int}:
        return all(-(2**63) <= item < 2**63 for item in value)
    return kinds == {float}


def _write_tuple(value: Any, writer: Writer, path: str) -> JSON:
    return [writer.write(item, f"{path}.{i}") for i, item in enumerate(value)]


def _write_dict(value: Any, writer: Writer, path: str) -> JSON:
    if not all(isinstance(key, (str, int, float, bool, type(None))) for key in value):
        raise Unknown(f"{path} has keys that are no numbers or strings")
    return [[writer.write(k, path), writer.write(v, f"{path}.{k}")] for k, v in value.items()]


def _read_dict(node: JSON, reader: Reader) -> Any:
    return {reader.read(key): reader.read(value) for key, value in node}


def _is_array(value: Any) -> bool:
    plain = type(value) in (np.ndarray, np.memmap)
    return plain and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8


def _write_array(value: Any, writer: Writer, path: str) -> JSON:
    # The last bits of a matrix product depend on the layout, so it is kept.
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    array = np.asarray(value, dtype=value.dtype.newbyteorder("="))
    return [writer.array(array, path), "F" if fortran else "C"]


def _read_array(node: JSON, reader: Reader) -> Any:
    name, order = node
    return np.array(reader.array(name), order=order)


def _is_strings(value: Any) -> bool:
    if type(value) is not np.ndarray or value.ndim != 1 or value.dtype.kind not in "OU":
        return False
    return all(isinstance(item, str) for item in value)


def _write_strings(value: Any, writer: Writer, path: str) -> JSON:
    return ["object" if value.dtype.kind == "O" else "str", [str(item) for item in value]]


def _read_strings(node: JSON, reader: Reader) -> Any:
    return np.array(node[1], dtype={"object": object, "str": str}[node[0]])


def _is_scalar(value: Any) -> bool:
    return isinstance(value, np.generic) and value.dtype.kind in "fiub" and value.itemsize <= 8


def _read_scalar(node: JSON, reader: Reader) -> Any:
    dtype = np.dtype(node[0])
    if dtype.kind not in "fiub":  # np.void(n) makes n bytes
        raise ValueError(f"{node[0]!r} is no dtype of numbers.")
    return dtype.type(reader.read(node[1]))


#: The kinds of Python and numpy.
BASIC: Mapping[str, Kind] = {
    "float": Kind(
        lambda value: type(value) is float,
        lambda value, writer, path: repr(value),
        lambda node, reader: {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}[node],
    ),
    "numbers": Kind(
        lambda value: type(value) is list and _is_long(value),
        lambda value, writer, path: writer.array(np.array(value), path),
        lambda node, reader: reader.array(node).tolist(),
    ),
    "tuple": Kind(
        lambda value: type(value) is tuple,
        _write_tuple,
        lambda node, reader: tuple(reader.read(item) for item in node),
    ),
    "dict": Kind(lambda value: type(value) is dict, _write_dict, _read_dict),
    "array": Kind(_is_array, _write_array, _read_array),
    "strings": Kind(_is_strings, _write_strings, _read_strings),
    "scalar": Kind(
        _is_scalar,
        lambda value, writer, path: [value.dtype.name, writer.write(value.item(), path)],
        _read_scalar,
    ),
}
