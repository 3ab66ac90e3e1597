"""Cut the missing requests into shard files within the service's limits, in input order.

Equal requests give equal bytes on every machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from runner.base.keys import DIGEST_BYTES, VERSION
from runner.base.sorted_keys import order_of
from runner.jobspec.models import Shards
from runner.planner.spool.decisions import Decisions, read_decisions
from runner.planner.spool.spool import Block, Spool, keys_of

Selector = Callable[[Decisions], npt.NDArray[np.bool_]]
"""Selects the request occurrences of a block that go into shards."""
_KEY_AT = len(b'{"custom_id":"')
_KEY_LENGTH = len(VERSION) + 1 + 2 * DIGEST_BYTES
_TENS = 10 ** np.arange(1, 10)
_READ_BYTES = 4 << 20
"""Bytes of lines read at a time."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard: its bytes' SHA-256 as name, its sorted keys, and its path if written."""

    digest: str
    requests: int
    bytes: int
    path: Path | None
    keys: npt.NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class _Piece:
    """One block's request occurrences for one shard.

    `sizes` are line lengths including the ordinal. The line without it is in `segments` at `offsets`.
    """

    keys: npt.NDArray[np.bytes_]
    ordinals: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.int64]
    segments: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]

    def between(self, start: int, end: int) -> _Piece:
        span = slice(start, end)
        return _Piece(self.keys[span], self.ordinals[span], self.sizes[span], self.segments[span], self.offsets[span])


def measure(spool: Spool, limits: Shards, selector: Selector) -> list[tuple[int, int]]:
    """Return (requests, bytes) of each shard `cut` would make."""
    return [
        (sum(len(piece.keys) for piece in pieces), sum(int(piece.sizes.sum()) for piece in pieces))
        for pieces in _shards(spool, limits, selector)
    ]


def cut(spool: Spool, limits: Shards, selector: Selector, folder: Path | None) -> Iterator[Shard]:
    """Yield the selected occurrences' shards, written to `folder`, if any.

    A shard ends before it exceeds `max_requests` or `max_bytes`. Rendering refused larger requests. A shard gets its
    final name when complete.
    """
    spool.ensure_lines()
    for pieces in _shards(spool, limits, selector):
        digest = hashlib.sha256()
        # In the spool's scratch folder, which only this process uses and which is removed with it.
        path = None if folder is None else spool.folder / "cutting"
        try:
            with Path(os.devnull if path is None else path).open("wb") as file:
                for piece in pieces:
                    _write(spool, piece, digest, None if path is None else file)
            name = digest.hexdigest()
            if path is not None and folder is not None:
                path = path.replace(folder / f"{name}.jsonl")
        finally:
            if folder is not None:
                (spool.folder / "cutting").unlink(missing_ok=True)
        sizes = sum(int(piece.sizes.sum()) for piece in pieces)
        keys = np.concatenate([piece.keys for piece in pieces])
        yield Shard(name, len(keys), sizes, path, keys[order_of(keys)])


def _shards(spool: Spool, limits: Shards, selector: Selector) -> Iterator[list[_Piece]]:
    pieces: list[_Piece] = []
    requests = size = 0
    for block, decisions in read_decisions(spool):
        piece = _piece(spool, block, decisions, np.flatnonzero(selector(decisions)))
        ends = np.cumsum(piece.sizes)
        start = 0
        while start < len(ends):
            before = int(ends[start - 1]) if start else 0
            last_fitting = int(np.searchsorted(ends, before + limits.max_bytes - size, "right"))
            end = min(last_fitting, start + limits.max_requests - requests)
            if end > start:
                pieces.append(piece.between(start, end))
                requests, size = requests + end - start, size + int(ends[end - 1]) - before
                start = end
            else:
                assert pieces, "a request over max_bytes was refused when it was rendered"
                yield pieces
                pieces, requests, size = [], 0, 0
    if pieces:
        yield pieces


def _piece(spool: Spool, block: Block, decisions: Decisions, chosen: npt.NDArray[np.intp]) -> _Piece:
    """Return copies, so that the block can be freed."""
    rows = chosen // spool.replicates
    ordinals = decisions["ordinal"][chosen]
    records, spans = block.records, block.spans
    lengths = records["length"].astype(np.int64)
    begins = np.cumsum(lengths) - lengths
    first = np.concatenate(([0], np.cumsum(spans["rows"], dtype=np.int64)))
    span = np.searchsorted(first, rows, "right") - 1
    return _Piece(
        keys_of(records["digest"][rows], ordinals),
        ordinals,
        lengths[rows] + _ordinal_bytes(ordinals),
        spans["segment"][span],
        spans["offset"][span].astype(np.int64) + begins[rows] - begins[first[span]],
    )


def _ordinal_bytes(ordinals: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    added = np.zeros(len(ordinals), np.int64)
    repeated = ordinals > 0
    added[repeated] = 2 + np.searchsorted(_TENS, ordinals[repeated], "right")
    return added


def _write(spool: Spool, piece: _Piece, digest: hashlib._Hash, file: BinaryIO | None) -> None:
    plain = piece.ordinals == 0
    adjacent = plain[1:] & plain[:-1] & (piece.segments[1:] == piece.segments[:-1])
    adjacent &= piece.offsets[1:] == piece.offsets[:-1] + piece.sizes[:-1]
    cuts = [0, *(np.flatnonzero(~adjacent) + 1).tolist(), len(plain)]
    with _Segments(spool) as segments:
        for start, end in pairwise(cuts):
            ordinal = int(piece.ordinals[start])
            size = int(piece.sizes[start:end].sum())
            if ordinal:
                size -= len(_suffix(ordinal))
            for data in segments.read(int(piece.segments[start]), int(piece.offsets[start]), size):
                whole = _with_ordinal(data, ordinal) if ordinal else data
                ordinal = 0  # only the first piece contains the key
                digest.update(whole)
                if file is not None:
                    file.write(whole)


class _Segments:
    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._number = -1
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            os.close(self._file)

    def read(self, number: int, offset: int, size: int) -> Iterator[bytes]:
        if number != self._number:
            self.__exit__()
            self._number, self._file = number, os.open(self._spool.segment(number), os.O_RDONLY)
        while size:
            data = os.pread(self._file, min(size, _READ_BYTES), offset)
            if not data:
                raise OSError(f"{self._spool.segment(number)} is shorter than it was")
            yield data
            size, offset = size - len(data), offset + len(data)


def _with_ordinal(data: bytes, ordinal: int) -> bytes:
    at = _KEY_AT + _KEY_LENGTH
    return data[:at] + _suffix(ordinal) + data[at:]


def _suffix(ordinal: int) -> bytes:
    return f"-{ordinal}".encode()
