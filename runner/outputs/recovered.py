"""Saves answers by request key, for a partition without input and kept rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from runner.base.keys import DIGEST_BYTES, KEY_BYTES, key_text
from runner.outputs.answer_source import AnswerSource
from runner.outputs.reader import OUTPUT_FILE
from runner.outputs.writer import answer_fields
from runner.state.atomic import atomic_write
from runner.state.lockfile_lines import OutputLine, PartitionField
from runner.state.results import ResultIndex
from runner.state.sorted_file import FileHandleCache

SUFFIX = ".recovered.jsonl"


def write_recovered(
    path: Path, name: str, address: str, indexes: Mapping[str, ResultIndex], batches: int
) -> OutputLine:
    """Write a line for each result line of the batches, by batch and key; return the lockfile's line.

    `indexes` are the batches' results. `batches` is how many the address has. Raises StoreError.
    """
    digest, rows = hashlib.sha256(), 0
    with FileHandleCache() as files, atomic_write(path) as file:
        for line in _lines(indexes, files):
            digest.update(line)
            file.write(line)
            rows += 1
    partition = PartitionField(state="open", batches=batches)
    return OutputLine(
        output=name,
        job=address,
        digest=digest.hexdigest(),
        rows=rows,
        batches=tuple(sorted(indexes)),
        partition=partition,
    )


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
