"""Select the first rows, or a sample, before rendering."""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

from runner.planner.input.parse import FRAMED, RECORD_BYTES, Chunk, frame_record, framed


def limited(chunks: Iterator[Chunk], limit: int) -> Iterator[Chunk]:
    """Yield the first `limit` records, and read no further."""
    remaining = limit
    for chunk in chunks:
        records = list(_raw_records(chunk))
        if len(records) >= remaining:
            yield _chunk_of(chunk, records[:remaining])
            return
        remaining -= len(records)
        yield chunk


@dataclass(frozen=True, slots=True)
class Sample:
    """The record numbers in a sample."""

    numbers: frozenset[int]

    def pick(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Yield the sample's records in input order."""
        number = 0
        for chunk in chunks:
            records = list(_raw_records(chunk))
            chosen = [record for at, record in enumerate(records, number) if at in self.numbers]
            number += len(records)
            if chosen:
                yield _chunk_of(chunk, chosen)


def sampled(chunks: Iterator[Chunk], count: int, seed: int) -> Sample:
    """Choose `count` records by a digest of their bytes and the seed, not by their place.

    Rows added later replace few, so most answers remain. Memory grows with `count` only.
    """
    salt = seed.to_bytes(8, "big", signed=True)
    chosen: list[tuple[int, int]] = []  # a heap; first is the one to replace: greatest digest, then last
    number = 0
    for chunk in chunks:
        for _, text in _raw_records(chunk):
            digest = int.from_bytes(hashlib.blake2b(text.rstrip(b"\r\n"), digest_size=8, key=salt).digest(), "big")
            entry = (-digest, -number)
            if len(chosen) < count:
                heapq.heappush(chosen, entry)
            elif entry > chosen[0]:
                heapq.heapreplace(chosen, entry)
            number += 1
    return Sample(frozenset(-at for _, at in chosen))


def _raw_records(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    if chunk.kind.endswith(FRAMED):
        yield from framed(chunk.data)
    elif chunk.kind == "jsonl":
        for line, text in enumerate(chunk.data.split(b"\n"), chunk.line):
            if text and not text.isspace():
                yield line, text
    else:
        yield from _separated(chunk)


def _separated(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    csv.field_size_limit(RECORD_BYTES)
    texts = io.BytesIO(chunk.data).readlines()
    reader = csv.reader((text.decode("latin-1") for text in texts), delimiter=chunk.delimiter, strict=True)
    before = 0
    for record in reader:
        if record:
            yield chunk.line + before, b"".join(texts[before : reader.line_num])
        before = reader.line_num


def _chunk_of(chunk: Chunk, records: list[tuple[int, bytes]]) -> Chunk:
    kind = chunk.kind if chunk.kind.endswith(FRAMED) else chunk.kind + FRAMED
    return replace(chunk, kind=kind, data=b"".join(frame_record(*record) for record in records))
