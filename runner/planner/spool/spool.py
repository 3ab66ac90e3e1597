"""The rendered requests of one job, in row order, in a scratch folder.

`rows` has one fixed record per row, `ids` one JSON line. Each process writes its lines to one segment, `lines-N`;
`spans` locates them in row order. `by-key` has the rows sorted by key. Heap use does not grow with the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from runner.base.keys import DIGEST_BYTES, KEY_BYTES
from runner.base.sorted_keys import order_of
from runner.planner.input.parse import RowProblem
from runner.planner.requests.refusal_rules import Finding
from runner.planner.requests.renderer import PACK
from runner.planner.spool.sort import RUN_RECORDS, ExternalSort

ROW = np.dtype([("digest", f"S{DIGEST_BYTES}"), ("length", "<u4"), ("id", "S16"), ("line", "<u4"), ("file", "<u2")])
"""A row: its key's digest, bytes of its line without an ordinal, the digest of its id, and its line and file in the
input. The same layout as `renderer.PACK`.
"""
assert ROW.itemsize == PACK.size
KEY = np.dtype(f"S{KEY_BYTES}")
"""A request key as bytes, in key order. The fixed width preserves trailing zero bytes."""
SPAN = np.dtype([("segment", "<u4"), ("rows", "<u4"), ("offset", "<u8"), ("size", "<u8")])
"""Lines of consecutive rows: their segment, row count, offset and size in bytes."""

BLOCK_OCCURRENCES = 1 << 16
"""Approximate number of request occurrences in a block, the unit of work."""

Rows = npt.NDArray[np.void]
_BY_KEY = np.dtype([("key", f"S{DIGEST_BYTES}"), ("row", "<u8")])
_BY_ID = np.dtype([("key", "S16"), ("row", "<u8")])


@dataclass(frozen=True, slots=True)
class Part:
    """One rendered chunk. `spans` are (segment file, offset, rows, bytes)."""

    file_number: int
    records: bytes | bytearray
    ids: bytes | bytearray
    spans: tuple[tuple[str, int, int, int], ...]
    seen: int
    bad: int
    problems: tuple[RowProblem, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows: first number, records, and their lines' spans."""

    start: int
    records: Rows
    spans: npt.NDArray[np.void]


class Spool:
    """A finished spool. If `numbered`, row numbers are ids."""

    def __init__(self, folder: Path, rows: int, replicates: int, dedupe: bool, numbered: bool) -> None:
        self.folder = folder
        self.rows = rows
        self.replicates = replicates
        self.dedupe = dedupe
        self.numbered = numbered
        self._rendered = folder
        self._render_now: Callable[[], Spool] | None = None

    def render_when_needed(self, render_now: Callable[[], Spool]) -> None:
        """Mark the lines as missing; `render_now` returns the same spool with lines."""
        self._render_now = render_now

    def ensure_lines(self) -> None:
        """Render missing lines. Call before taking blocks."""
        if self._render_now is not None:
            self._rendered = self._render_now().folder
            self._render_now = None

    def files(self) -> list[Path]:
        """Return the files that a copy of this spool needs. Call `ensure_lines` before."""
        names = (self._rendered / "segments").read_text(encoding="utf-8").split()
        return [
            *(self.folder / name for name in ("rows", "ids")),
            *(self._rendered / name for name in ("spans", "segments", *names)),
        ]

    @property
    def occurrences(self) -> int:
        """Return the number of request occurrences, equal ones included."""
        return self.rows * self.replicates

    def blocks(self) -> Iterator[Block]:
        """Yield all rows in blocks of at most `BLOCK_OCCURRENCES` occurrences."""
        limit = max(1, BLOCK_OCCURRENCES // self.replicates)
        start, pending = 0, 0
        spans: list[npt.NDArray[np.void]] = []
        with (self.folder / "rows").open("rb") as file:
            for span in np.fromfile(self._rendered / "spans", SPAN):
                if pending and pending + int(span["rows"]) > limit:
                    yield self._block(file.read(pending * ROW.itemsize), start, spans)
                    start, pending, spans = start + pending, 0, []
                if int(span["rows"]) > limit:  # many replicates per row
                    for block in self._parts(file, start, span, limit):
                        yield block
                        start += len(block.records)
                    continue
                pending += int(span["rows"])
                spans.append(span)
            if pending:
                yield self._block(file.read(pending * ROW.itemsize), start, spans)

    def _parts(self, file: BinaryIO, start: int, span: npt.NDArray[np.void], limit: int) -> Iterator[Block]:
        offset, remaining = int(span["offset"]), int(span["rows"])
        while remaining:
            rows = min(limit, remaining)
            records = np.frombuffer(file.read(rows * ROW.itemsize), ROW)
            size = int(records["length"].sum(dtype=np.int64))
            yield Block(start, records, np.array([(span["segment"], rows, offset, size)], SPAN))
            start, remaining, offset = start + rows, remaining - rows, offset + size

    def _block(self, data: bytes, start: int, spans: list[npt.NDArray[np.void]]) -> Block:
        return Block(start, np.frombuffer(data, ROW), np.array(spans, SPAN))

    def segment(self, number: int) -> Path:
        """Return a segment's file of lines."""
        names = (self._rendered / "segments").read_text(encoding="utf-8").split()
        return self._rendered / names[number]

    def lines(self) -> Iterator[bytes]:
        """Yield each row's line without an ordinal."""
        self.ensure_lines()
        for block in self.blocks():
            lengths = iter(block.records["length"].tolist())
            for span in block.spans:
                with self.segment(int(span["segment"])).open("rb") as file:
                    file.seek(int(span["offset"]))
                    for _ in range(int(span["rows"])):
                        yield file.read(next(lengths))

    def groups(self) -> Iterator[tuple[bytes, bytes, npt.NDArray[np.int64], npt.NDArray[np.bytes_]]]:
        """Yield (lowest key, exclusive upper key or empty, row numbers, digests) by key, then by row.

        All rows of one key are in one group.
        """
        self.sort()
        lowest, rest = b"", np.empty(0, _BY_KEY)
        with (self.folder / "by-key").open("rb") as file:
            while len(block := np.frombuffer(file.read(RUN_RECORDS * _BY_KEY.itemsize), _BY_KEY)):
                block = np.concatenate((rest, block)) if len(rest) else block
                # The last key may continue in the next block.
                end = int(np.searchsorted(block["key"], block["key"][-1]))
                rest = block[end:]
                if end:
                    after = bytes(rest["key"][0]).ljust(DIGEST_BYTES, b"\0")
                    yield lowest, after, block["row"][:end].astype(np.int64), block["key"][:end]
                    lowest = after
        yield lowest, b"", rest["row"].astype(np.int64), rest["key"]

    def sort(self) -> None:
        """Write the rows sorted by key, once."""
        path = self.folder / "by-key"
        if path.exists():
            return
        with path.with_suffix(".part").open("wb") as file:
            for _, _, records in _sort_rows(self, "digest", _BY_KEY).groups():
                file.write(records[order_of(records["key"])].tobytes())
        path.with_suffix(".part").replace(path)

    def ids(self) -> Iterator[bytes]:
        """Yield each row's id as JSON."""
        if self.numbered:
            for number in range(1, self.rows + 1):
                yield b"%d" % number
            return
        with (self.folder / "ids").open("rb") as file:
            for line in file:
                yield line[:-1]


class SpoolWriter:
    """Writes a spool part by part."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.rows = 0
        self._segments: dict[str, int] = {}
        self._rows = (folder / "rows").open("wb")
        self._ids = (folder / "ids").open("wb")
        self._spans = (folder / "spans").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._rows, self._ids, self._spans):
            file.close()

    def add(self, part: Part) -> None:
        """Append a rendered chunk, whose segment has its lines."""
        self._rows.write(part.records)
        self._ids.write(part.ids)
        for segment, offset, rows, size in part.spans:
            number = self._segments.setdefault(segment, len(self._segments))
            self._spans.write(np.array((number, rows, offset, size), SPAN).tobytes())
        self.rows += len(part.records) // ROW.itemsize

    def finish(self, replicates: int, *, dedupe: bool, numbered: bool) -> Spool:
        """Return the finished spool."""
        self.__exit__()
        (self._folder / "segments").write_text("\n".join(self._segments), encoding="utf-8")
        return Spool(self._folder, self.rows, replicates, dedupe, numbered)


def sequence_digest(spool: Spool) -> str:
    """Return 64 hex digits over the desired keys in row order, dedupe and replicates."""
    state = hashlib.sha256(f"{spool.replicates} {spool.dedupe} ".encode())
    for block in spool.blocks():
        state.update(block.records["digest"].tobytes())
    return state.hexdigest()


def keys_of(digests: npt.NDArray[np.bytes_], ordinals: npt.NDArray[np.uint32]) -> npt.NDArray[np.bytes_]:
    """Return 24-byte keys from digests and ordinals."""
    both = np.empty(len(digests), np.dtype([("digest", f"S{DIGEST_BYTES}"), ("ordinal", ">u4")]))
    both["digest"] = digests
    both["ordinal"] = ordinals
    return both.view(KEY)


def duplicate_ids(spool: Spool, limit: int) -> tuple[list[tuple[Rows, Rows, bytes]], int]:
    """Return the first `limit` rows with an earlier row's id, and the number of such rows.

    Each is (earlier row, this row, id as JSON).
    """
    found: list[tuple[int, int]] = []
    total = 0
    for _, _, records in _sort_rows(spool, "id", _BY_ID).groups():
        order = order_of(records["key"])
        ids = records["key"][order]
        repeats = np.flatnonzero(ids[1:] == ids[:-1]) + 1
        if len(repeats):
            rows = records["row"][order]
            total += len(repeats)
            first = repeats[np.argsort(rows[repeats], kind="stable")[:limit]]
            found += zip(rows[first].tolist(), rows[first - 1].tolist(), strict=True)
            found = sorted(found)[:limit]
    names = _ids_of(spool, {row for row, _ in found})
    return [(_row(spool, earlier), _row(spool, row), names[row]) for row, earlier in found], total


def _ids_of(spool: Spool, rows: set[int]) -> dict[int, bytes]:
    last = max(rows, default=-1)
    return {row: name for row, name in zip(range(last + 1), spool.ids(), strict=False) if row in rows}


def _row(spool: Spool, number: int) -> Rows:
    found: Rows = np.fromfile(spool.folder / "rows", ROW, count=1, offset=number * ROW.itemsize)[0]
    return found


def _sort_rows(spool: Spool, field: str, dtype: np.dtype[np.void]) -> ExternalSort:
    sorter = ExternalSort(spool.folder / f"runs-{field}", dtype)
    for block in spool.blocks():
        records = np.empty(len(block.records), dtype)
        records["key"] = block.records[field]
        records["row"] = np.arange(block.start, block.start + len(records))
        sorter.add(records)
    return sorter
