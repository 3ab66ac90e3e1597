"""Parts of files, read where they lie: few files are open at a time, and of sorted records those between two keys.

Nothing is mapped. A mapped file holds a descriptor, and its pages count as this process's memory until they are given
back: with a batch for every file, both grow with the rows of a job.
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


class FileHandleCache:
    """Reads pieces of many files, with few of them open at a time. Use as a context manager."""

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
        """A descriptor to read `path` with; good until the next one is asked for."""
        handle = self._files.pop(path, None)
        if handle is None:
            handle = os.open(path, os.O_RDONLY)
            if len(self._files) >= self._OPEN:
                os.close(self._files.popitem(last=False)[1])
        self._files[path] = handle
        return handle

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer where the file ends."""
        return os.pread(self.handle(path), length, offset)


@dataclass(frozen=True, slots=True)
class SortedFile:
    """A NumPy file of records sorted by key: either keys alone, or records with a field `key`.

    `begin` is the offset in bytes of the first record; `stamp` tells the file from one that has taken its place.
    """

    path: Path
    dtype: np.dtype[Any]
    count: int
    begin: int
    stamp: tuple[int, int, int]

    @classmethod
    def open(cls, path: Path, dtype: np.dtype[Any]) -> Self:
        """The file at `path`. Raises OSError, and ValueError where it does not hold whole records of `dtype`."""
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("it is written in another version of the format")
            shape, _, found = np.lib.format.read_array_header_1_0(file)
            begin, stamp = file.tell(), _stamp(file.fileno())
        if found != dtype or len(shape) != 1:
            raise ValueError("it holds something else")
        if stamp[1] != begin + shape[0] * dtype.itemsize:
            raise ValueError("it has another length than it says")
        return cls(path, dtype, int(shape[0]), begin, stamp)

    def __len__(self) -> int:
        return self.count

    def all(self) -> Records:
        """All records, in an array of their own. Raises StoreError where the file is another one by now."""
        with FileHandleCache() as files:
            return self._read(files, 0, self.count).copy()

    def between(self, files: FileHandleCache, lowest: bytes, after: bytes) -> Records:
        """The records with keys from `lowest` up to, not including, `after` (empty: from the first, to the last).

        Keys are digests, so they lie about as far into the file as into all there can be; what is read is somewhat more
        than that, and more again where it was not enough. Raises StoreError where the file is another one by now.
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
            same = _stamp(handle) == self.stamp
        except OSError as error:
            raise StoreError(f"cannot read {self.path}: {error.strerror or error}", code="BS411") from error
        if not same or len(data) != size:
            raise StoreError(f"{self.path} was replaced while it was read", hint="run the command again")
        return np.frombuffer(data, self.dtype)


def save_sorted(path: Path, records: Records) -> SortedFile:
    """Write records that are sorted by key, unless they stand there already: who reads them then reads on."""
    file = io.BytesIO()
    np.save(file, records)
    write_if_changed(path, file.getvalue())
    return SortedFile.open(path, records.dtype)


def _stamp(handle: int) -> tuple[int, int, int]:
    found = os.fstat(handle)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _fraction(key: bytes) -> float:
    """How far a key lies into all keys there can be, from 0 to 1."""
    return float(int.from_bytes(key[:8].ljust(8, b"\0")) / (1 << 64))
