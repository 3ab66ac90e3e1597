"""Files that are there whole or not at all, and the lock for the moments of writing."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runner.errors import StoreError

_NEW_MODE = 0o644
"""What a new file may be read by; the usual, since mkstemp would let its owner alone read a lockfile."""


def private_folder(path: Path) -> None:
    """Make a folder that its owner alone may enter, unless it is there; its parents have the usual rights."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write part `path`; synced and renamed over it when the block ends well, removed otherwise.

    Raises StoreError where the disk refuses.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777 if path.exists() else _NEW_MODE)
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}", code="BS411") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_if_changed(path: Path, data: bytes) -> None:
    """Write `data` as the whole content of `path`, unless it stands there already. Raises StoreError."""
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}", code="BS411") from error
    with atomic_write(path) as file:
        file.write(data)


def sync_file(path: Path) -> None:
    """Have a file's bytes and its name on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
