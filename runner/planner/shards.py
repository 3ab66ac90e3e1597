"""Cutting shards: the missing requests in input order, as files within the service's limits.

A shard is only an envelope. The same missing requests give the same bytes on every machine, and a shard's name is
the SHA-256 of its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from runner.keys import key_text
from runner.planner.spool import KEY, Spool
from runner.spec.models import Shards

Wanted = Callable[[npt.NDArray[np.void]], npt.NDArray[np.bool_]]
"""Chooses ask records of a block that go into shards."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One cut shard: its name (64 hex digits over its bytes), its size, and where it lies if it was written."""

    digest: str
    requests: int
    bytes: int
    path: Path | None
    keys: npt.NDArray[np.bytes_]


def cut(spool: Spool, limits: Shards, wanted: Wanted, folder: Path | None) -> Iterator[Shard]:
    """Shards of the wanted asks, in input order; written to `folder`, or only measured where it is None.

    A shard is closed when the next request would go over `max_requests` or `max_bytes`; both limits are reached exactly
    where the requests allow. A request alone over `max_bytes` was refused when it was rendered.
    """
    part = _Part(folder)
    try:
        for key, body in _requests(spool, wanted):
            text = key_text(key[:20], int.from_bytes(key[20:], "big")).encode()
            line = spool.envelope.line(text, body)
            if part.requests and (part.requests >= limits.max_requests or part.bytes + len(line) > limits.max_bytes):
                yield part.close()
                part = _Part(folder)
            part.add(key, line)
        if part.requests:
            yield part.close()
    finally:
        part.discard()


def _requests(spool: Spool, wanted: Wanted) -> Iterator[tuple[bytes, bytes]]:
    asks = spool.open_asks()
    replicates = spool.replicates
    with (spool.folder / "bodies").open("rb") as file:
        offset = 0
        for start, block in spool.blocks():
            chosen = asks[start * replicates : (start + len(block)) * replicates]
            picks = np.flatnonzero(wanted(chosen))
            if len(picks):
                ends = np.cumsum(block["length"], dtype=np.int64)
                digests, ordinals = block["digest"], chosen["ordinal"]
                for pick in picks.tolist():
                    row = pick // replicates
                    length = int(block["length"][row])
                    file.seek(offset + int(ends[row]) - length)
                    yield digests[row].ljust(20, b"\0") + int(ordinals[pick]).to_bytes(4, "big"), file.read(length)
            offset += int(block["length"].sum(dtype=np.int64))


class _Part:
    """A shard while it is being cut."""

    def __init__(self, folder: Path | None) -> None:
        self.requests = 0
        self.bytes = 0
        self._folder = folder
        self._hash = hashlib.sha256()
        self._keys: list[bytes] = []
        self._file: BinaryIO | None = None

    def add(self, key: bytes, line: bytes) -> None:
        if self._file is None and self._folder is not None:
            self._file = (self._folder / "cutting").open("wb")
        if self._file is not None:
            self._file.write(line)
        self._hash.update(line)
        self._keys.append(key)
        self.requests += 1
        self.bytes += len(line)

    def close(self) -> Shard:
        digest = self._hash.hexdigest()
        path = None
        if self._file is not None and self._folder is not None:
            self._file.close()
            path = self._folder / f"{digest}.jsonl"
            (self._folder / "cutting").replace(path)
            self._file = None
        return Shard(digest, self.requests, self.bytes, path, np.sort(np.array(self._keys, KEY)))

    def discard(self) -> None:
        if self._file is not None and self._folder is not None:
            self._file.close()
            (self._folder / "cutting").unlink(missing_ok=True)
            self._file = None
