"""A file that is there as a whole, or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Put a file in the place of another at once: yield a path beside it, to be written and synced.

    Whatever happens, one of the two files is there; the new one is removed if the block raises.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():  # renaming would say so, but only after all has been written
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        message = f"no such folder to write {path.name!r} in; make it first"
        raise FileNotFoundError(errno.ENOENT, message, str(path.parent))
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    # Make the new name survive a power cut, where the system has that: Windows opens no folders.
    with contextlib.suppress(PermissionError):
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: str | os.PathLike[str], *parts: bytes | memoryview) -> None:
    """Put a file of these bytes in the place of another at once."""
    with replacing(path) as part, open(part, "xb") as file:
        for data in parts:
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
