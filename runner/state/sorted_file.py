"""Key ranges of sorted records in many files.

Nothing is memory-mapped: memory and descriptors would grow with a job's rows.
"""

from __future__ import annotations

import io
import math
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from runner.errors import StoreError
from runner.state.atomic import write_if_changed

Records = npt.NDArray[Any]
Stamp = tuple[int, int, int]


class FileHandleCache:
    """Reads pieces of files, at most 64 open."""

    _OPEN = 64

    def __init__(self) -> None:
        self._files: OrderedDict[Path, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()

    def handle(self, path: Path) -> int:
        """Return a descriptor, valid until the next call."""
        handle = self._files.pop(path, None)
        if handle is None:
            handle = os.open(path, os.O_RDONLY)
            if len(self._files) >= self._OPEN:
                os.close(self._files.popitem(last=False)[1])
        self._files[path] = handle
        return handle

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Return up to `length` bytes."""
        return os.pread(self.handle(path), length, offset)


@dataclass(frozen=True, slots=True)
class SortedFile:
    """A NumPy file of sorted keys, or of records with a `key`.

    `begin` is the first record's offset. `stamp` detects a replaced file.
    """

    path: Path
    dtype: np.dtype[Any]
    count: int
    begin: int
    stamp: Stamp

    @classmethod
    def open(cls, path: Path, dtype: np.dtype[Any]) -> Self:
        """Open a file. Raises OSError, ValueError."""
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("it has another version of the format")
            shape, _, found = np.lib.format.read_array_header_1_0(file)
            begin, stamp = file.tell(), file_stamp(file.fileno())
        if found != dtype or len(shape) != 1:
            raise ValueError("it holds something else")
        if stamp[1] != begin + shape[0] * dtype.itemsize:
            raise ValueError("its length does not match its header")
        return cls(path, dtype, int(shape[0]), begin, stamp)

    def __len__(self) -> int:
        return self.count

    def all(self) -> Records:
        """Copy all records. Raises StoreError for a replaced file."""
        with FileHandleCache() as files:
            return self._read(files, 0, self.count).copy()

    def between(self, files: FileHandleCache, lowest: bytes, after: bytes) -> Records:
        """Return records with keys in [`lowest`, `after`); an empty bound is none.

        Keys are digests: their value predicts their position. Raises StoreError.
        """
        slack = 16 + 4 * math.isqrt(self.count)
        while True:
            start = max(0, int(_fraction(lowest) * self.count) - slack) if lowest else 0
            end = min(self.count, int(_fraction(after) * self.count) + slack) if after else self.count
            records = self._read(files, start, end)
            keys = records["key"] if self.dtype.names else records
            first = int(np.searchsorted(keys, np.bytes_(lowest))) if lowest else 0
            last = int(np.searchsorted(keys, np.bytes_(after))) if after else len(keys)
            if (first or not start) and (last < len(keys) or end == self.count):
                return records[first:last]
            slack *= 4

    def _read(self, files: FileHandleCache, start: int, end: int) -> Records:
        size = (end - start) * self.dtype.itemsize
        try:
            handle = files.handle(self.path)
            data = os.pread(handle, size, self.begin + start * self.dtype.itemsize)
            same = file_stamp(handle) == self.stamp
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror or error}", code="BS411") from error
        if not same or len(data) != size:
            raise StoreError(f"{self.path} was replaced while it was read", hint="run the command again")
        return np.frombuffer(data, self.dtype)


class SortedFileCache:
    """Opens sorted files, again only if replaced. Shared by threads."""

    def __init__(self) -> None:
        self._known: dict[str, SortedFile] = {}

    def open(self, path: str, dtype: np.dtype[Any]) -> SortedFile:
        """Open the file at `path`. Raises as `SortedFile.open`."""
        known = self._known.get(path)
        if known is None or known.stamp != file_stamp(path):
            known = self._known[path] = SortedFile.open(Path(path), dtype)
        return known


def save_sorted(path: Path, records: Records) -> SortedFile:
    """Write sorted records. Keeps an unchanged file for open readers."""
    file = io.BytesIO()
    np.save(file, records)
    write_if_changed(path, file.getvalue())
    return SortedFile.open(path, records.dtype)


def file_stamp(file: int | str) -> Stamp:
    """Return a file's inode, size and time."""
    found = os.stat(file)  # noqa: PTH116  a descriptor or a name, 20,000 times a command
    return found.st_ino, found.st_size, found.st_mtime_ns


def _fraction(key: bytes) -> float:
    return float(int.from_bytes(key[:8].ljust(8, b"\0")) / (1 << 64))
