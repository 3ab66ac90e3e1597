"""Saves answers by request key, for a partition without input and kept rows."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path

import orjson

from runner.base.keys import DIGEST_BYTES, KEY_BYTES, key_text
from runner.errors import StoreError
from runner.outputs.answer_source import AnswerSource
from runner.outputs.reader import OUTPUT_FILE
from runner.outputs.writer import answer_fields
from runner.state.atomic import atomic_write
from runner.state.lockfile_lines import OutputLine, PartitionField
from runner.state.results import ResultIndex
from runner.state.sorted_file import FileHandleCache

SUFFIX = ".recovered.jsonl"


def write_recovered(
    path: Path, name: str, address: str, indexes: Mapping[str, ResultIndex], batches: int, before: OutputLine | None
) -> OutputLine:
    """Write a line for each result line of the batches, by batch and key; return the lockfile's line.

    `indexes` are the batches' results. `batches` is how many the address has. `before` records the file at `path`: its
    answers of other batches stay, as they may be the only copy. Raises StoreError.
    """
    kept = frozenset[str]() if before is None else frozenset(before.batches) - indexes.keys()
    digest, rows = hashlib.sha256(), 0
    with FileHandleCache() as files, atomic_write(path) as file:
        for line in chain(_lines_at(path, kept), _lines(indexes, files)):
            digest.update(line)
            file.write(line)
            rows += 1
    partition = PartitionField(state="open", batches=batches)
    return OutputLine(
        output=name,
        job=address,
        digest=digest.hexdigest(),
        rows=rows,
        batches=tuple(sorted(kept.union(indexes))),
        partition=partition,
    )


def _lines_at(path: Path, batches: Collection[str]) -> Iterable[bytes]:
    if not batches:
        return
    try:
        with path.open("rb") as file:
            yield from (line for line in file if orjson.loads(line)["batch"] in batches)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path.name} is damaged", hint="move it away and apply again") from error


def _lines(indexes: Mapping[str, ResultIndex], files: FileHandleCache) -> Iterable[bytes]:
    imported: dict[str, Mapping[str, bytes]] = {}
    for batch in sorted(indexes):
        index = indexes[batch]
        source = AnswerSource(batch, index.files, index.summary.codes)
        for entry in index.entries.all():
            key = bytes(entry["key"]).ljust(KEY_BYTES, b"\0")
            name = key_text(key[:DIGEST_BYTES], int.from_bytes(key[DIGEST_BYTES:], "big"))
            number = int(entry["file"])
            data = files.read(index.files[number], int(entry["offset"]), int(entry["length"]))
            fields = answer_fields(data, source, name, imported, saved=number == OUTPUT_FILE)
            del fields["parsed"]
            yield orjson.dumps(fields) + b"\n"
