"""Atomic writes: a file holds its old or its new content."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runner.errors import StoreError

_NEW_MODE = 0o644
"""Mode of a new file. mkstemp's default would let only the owner read a lockfile."""


def private_folder(path: Path) -> None:
    """Create a folder and missing parents, for their owner."""
    for folder in reversed([one for one in (path, *path.parents) if not one.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file; on success, sync and rename it. Raises StoreError."""
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


def holds(path: Path, data: bytes) -> bool:
    """Return whether a file has exactly these bytes. Raises StoreError."""
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}", code="BS411") from error


def write_if_changed(path: Path, data: bytes) -> None:
    """Write `data` unless the file has it. Raises StoreError."""
    if holds(path, data):
        return
    with atomic_write(path) as file:
        file.write(data)


def sync_file(path: Path) -> None:
    """Flush a file and its directory entry."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
