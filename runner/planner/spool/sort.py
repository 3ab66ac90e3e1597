"""External sort of fixed records by key prefix, for more records than fit in memory.

Each run is sorted by the key's first byte and appended to one file, with a table of its 256 bucket offsets.
Neighbouring buckets are read from all runs as one group, which has all records of its keys. What fits in one run
touches no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

RUN_RECORDS = 1 << 18
"""Records in a run and, roughly, in a group: the most in memory at a time."""
Records = npt.NDArray[np.void]


class ExternalSort:
    """Records with a bytes field `key`. Call `add`, then `groups`, repeatedly if needed."""

    def __init__(self, path: Path, dtype: np.dtype[np.void]) -> None:
        self._path = path
        self._dtype = dtype
        self._buffered: list[Records] = []
        self._buffered_count = 0
        self._runs: list[npt.NDArray[np.int64]] = []
        self._written = 0
        self.count = 0

    def add(self, records: Records) -> None:
        """Add records."""
        for start in range(0, len(records), RUN_RECORDS):
            part = records[start : start + RUN_RECORDS]
            if self._buffered_count and self._buffered_count + len(part) > RUN_RECORDS:
                self._flush()
            self._buffered.append(part)
            self._buffered_count += len(part)
            self.count += len(part)

    def groups(self) -> Iterator[tuple[bytes, bytes, Records]]:
        """Yield (lowest key, exclusive upper key or empty, records) by key, then in the order added."""
        if not self._runs:
            yield b"", b"", self._joined()
            return
        if self._buffered_count:
            self._flush()
        sizes = np.sum([np.diff(starts) for starts in self._runs], axis=0)
        file = os.open(self._path, os.O_RDONLY)
        try:
            for low, high in _bucket_ranges(sizes):
                yield (
                    bytes([low]) if low else b"",
                    bytes([high]) if high < 256 else b"",
                    self._read(file, low, high, int(sizes[low:high].sum())),
                )
        finally:
            os.close(file)

    def _read(self, file: int, low: int, high: int, count: int) -> Records:
        found = np.empty(count, self._dtype)
        view = memoryview(found.view(np.uint8).data)
        at = 0
        for starts in self._runs:
            first, size = int(starts[low]), int(starts[high] - starts[low])
            length = size * self._dtype.itemsize
            if os.preadv(file, [view[at : at + length]], first * self._dtype.itemsize) != length:
                raise OSError(f"{self._path} is shorter than it was")
            at += length
        return found

    def _joined(self) -> Records:
        return np.concatenate(self._buffered) if self._buffered else np.empty(0, self._dtype)

    def _flush(self) -> None:
        records = self._joined()
        first = first_bytes(records["key"])
        order = np.argsort(first, kind="stable")  # a radix sort
        starts = np.zeros(257, np.int64)
        np.cumsum(np.bincount(first, minlength=256), out=starts[1:])
        with self._path.open("ab" if self._runs else "wb") as file:
            file.write(records[order].tobytes())
        self._runs.append(starts + self._written)
        self._written += len(records)
        self._buffered, self._buffered_count = [], 0


def first_bytes(keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint8]:
    """Return the first byte of each key."""
    packed = np.ascontiguousarray(keys)
    return packed.view(np.uint8).reshape(len(packed), packed.dtype.itemsize)[:, 0]


def _bucket_ranges(sizes: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    low, pending = 0, 0
    for bucket, size in enumerate(sizes.tolist()):
        if pending and pending + size > RUN_RECORDS:
            yield low, bucket
            low, pending = bucket, 0
        pending += size
    yield low, 256
