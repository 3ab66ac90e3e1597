"""The rendered requests of one job, in row order, in a scratch folder: what is desired, on disk.

Three files grow while rows are rendered: `bodies` (the request bodies, one after another), `rows` (a fixed record a
row) and `ids` (each row's id as JSON, a line each). A fourth, `asks`, is filled in when the keys are compared with what
is known: a fixed record for each ask of a row. Nothing here grows on the heap with the number of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from runner.keys import DIGEST_BYTES, KEY_BYTES
from runner.planner.bodies import Envelope

ROW = np.dtype([("digest", f"S{DIGEST_BYTES}"), ("length", "<u4"), ("id", "S16"), ("line", "<u4"), ("file", "<u2")])
"""A row: its body's digest and length in bytes, the digest of its id, and where it stands in the input."""
KEY = np.dtype(f"S{KEY_BYTES}")
"""A request key as bytes; sorting these sorts keys. A trailing zero byte is kept by the fixed width."""
ASK = np.dtype(
    [
        ("ordinal", "<u4"),
        ("state", "u1"),
        ("round", "u1"),
        ("first", "u1"),
        ("file", "u1"),
        ("source", "<u4"),
        ("length", "<u4"),
        ("offset", "<u8"),
    ]
)
"""An ask: its key's ordinal and state, the round it would go out in, whether this row is the first with this key (the
one that is submitted), and where its answer lies: number of the source, file of it, offset and length in bytes."""

BLOCK_ROWS = 1 << 18
BUCKET_ROWS = 1 << 19

Rows = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Spool:
    """Paths and size of a finished spool. `replicates` asks stand for each row."""

    folder: Path
    rows: int
    replicates: int
    dedupe: bool
    envelope: Envelope

    @property
    def asks(self) -> int:
        """Asks in all; equal ones counted each time."""
        return self.rows * self.replicates

    def blocks(self) -> Iterator[tuple[int, Rows]]:
        """(number of the first row, row records) in row order."""
        yield from _blocks(self.folder / "rows", ROW, BLOCK_ROWS)

    def buckets(self) -> Iterator[tuple[bytes, bytes, npt.NDArray[np.int64], Rows]]:
        """Rows by key: (lowest key, key after the highest or empty, row numbers, records), in order of keys.

        A bucket holds about `BUCKET_ROWS` rows; rows of one key are always in one bucket, in row order.
        """
        count = max(1, min(256, 1 << (max(0, self.rows // BUCKET_ROWS)).bit_length()))
        if self.rows < BUCKET_ROWS:
            count = 1
        for bucket in range(count):
            low, high = bucket * 256 // count, (bucket + 1) * 256 // count
            numbers, records = [], []
            for start, block in self.blocks():
                chosen = _first_byte_between(block["digest"], low, high) if count > 1 else np.arange(len(block))
                numbers.append(chosen.astype(np.int64) + start)
                records.append(block[chosen])
            lowest = bytes([low]) if low else b""
            after = bytes([high]) if high < 256 else b""
            yield (
                lowest,
                after,
                np.concatenate(numbers or [np.empty(0, np.int64)]),
                np.concatenate(records or [np.empty(0, ROW)]),
            )

    def open_asks(self) -> npt.NDArray[np.void]:
        """The ask records, row by row and replicate by replicate, mapped from disk and writable."""
        path = self.folder / "asks"
        if not path.exists() or path.stat().st_size != self.asks * ASK.itemsize:
            with path.open("wb") as file:
                file.truncate(self.asks * ASK.itemsize)
        if not self.asks:
            return np.empty(0, ASK)
        return np.memmap(path, dtype=ASK, mode="r+", shape=(self.asks,))

    def bodies(self) -> Iterator[tuple[bytes, bytes]]:
        """(key digest, body) of each row, in row order."""
        with (self.folder / "bodies").open("rb") as file:
            for _, block in self.blocks():
                lengths = block["length"].tolist()
                data = block["digest"].tobytes()
                for position, length in enumerate(lengths):
                    at = position * DIGEST_BYTES
                    yield data[at : at + DIGEST_BYTES], file.read(length)

    def ids(self) -> Iterator[bytes]:
        """Each row's id as JSON, in row order."""
        with (self.folder / "ids").open("rb") as file:
            for line in file:
                yield line[:-1]


class SpoolWriter:
    """Writes a spool, row by row, in order. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.rows = 0
        self.body_bytes = 0
        self._bodies = (folder / "bodies").open("wb")
        self._rows = (folder / "rows").open("wb")
        self._ids = (folder / "ids").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._bodies, self._rows, self._ids):
            file.close()

    def add(self, records: Rows, bodies: bytes, ids: bytes) -> None:
        """Append the rows of one rendered chunk: records, their bodies joined, their ids as lines."""
        self._rows.write(records.tobytes())
        self._bodies.write(bodies)
        self._ids.write(ids)
        self.rows += len(records)
        self.body_bytes += len(bodies)


def sequence_digest(spool: Spool) -> str:
    """64 hex digits over the keys' digests in row order, dedupe and replicates: names the desired key sequence."""
    state = hashlib.sha256(f"{spool.replicates} {spool.dedupe} ".encode())
    for _, block in spool.blocks():
        state.update(block["digest"].tobytes())
    return state.hexdigest()


def keys_of(digests: npt.NDArray[np.bytes_], ordinals: npt.NDArray[np.uint32]) -> npt.NDArray[np.bytes_]:
    """24-byte keys from digests and ordinals."""
    both = np.empty(len(digests), np.dtype([("digest", f"S{DIGEST_BYTES}"), ("ordinal", ">u4")]))
    both["digest"] = digests
    both["ordinal"] = ordinals
    return both.view(KEY)


def first_doubled_id(folder: Path) -> tuple[Rows, Rows] | None:
    """The first row, in row order, whose id an earlier row has, and that earlier row; None where all ids differ."""
    path = folder / "rows"
    total = path.stat().st_size // ROW.itemsize
    count = max(1, min(256, 1 << (total // BUCKET_ROWS).bit_length())) if total >= BUCKET_ROWS else 1
    best: tuple[int, Rows, Rows] | None = None
    for bucket in range(count):
        low, high = bucket * 256 // count, (bucket + 1) * 256 // count
        numbers, records = [], []
        for start, block in _blocks(path, ROW, BLOCK_ROWS):
            chosen = _first_byte_between(block["id"], low, high) if count > 1 else np.arange(len(block))
            numbers.append(chosen.astype(np.int64) + start)
            records.append(block[chosen])
        if not numbers:
            continue
        rows, number = np.concatenate(records), np.concatenate(numbers)
        order = np.argsort(rows["id"], kind="stable")
        ids = rows["id"][order]
        again = np.flatnonzero(ids[1:] == ids[:-1]) + 1
        if len(again):
            at = again[np.argmin(number[order[again]])]
            found = (int(number[order[at]]), rows[order[at - 1]], rows[order[at]])
            best = found if best is None or found[0] < best[0] else best
    return None if best is None else (best[1], best[2])


def _blocks(path: Path, dtype: np.dtype[np.void], size: int) -> Iterator[tuple[int, Rows]]:
    start = 0
    with path.open("rb") as file:
        while data := file.read(size * dtype.itemsize):
            block = np.frombuffer(data, dtype)
            yield start, block
            start += len(block)


def _first_byte_between(column: npt.NDArray[np.bytes_], low: int, high: int) -> npt.NDArray[np.intp]:
    first = np.ascontiguousarray(column).view(np.uint8).reshape(len(column), -1)[:, 0]
    return np.flatnonzero((first >= low) & (first < high))
