"""A chunk's bytes to rows. Runs in worker processes too, so it imports little.

A new kind of chunk is one function from a chunk to its rows, in `READERS`; see `runner.planner.sources`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records of one file, as bytes in UTF-8.

    `line` is the first record's line in the file, `header` the columns where the records do not name them.
    """

    file_number: int
    line: int
    kind: str
    data: bytes
    header: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with one record; `column` is 0 where it is not known.

    `position` is that of a row that has no id to be named by, counted in its chunk from 0; -1 for all others.
    """

    line: int
    column: int
    message: str
    position: int = -1


RECORD_BYTES = 64 << 20
"""The longest record. A longer one is an error, so that a file without line ends cannot fill the memory."""

Record = tuple[int, dict[str, Any]]
"""One row: the line it starts on, and its columns."""
Reader = Callable[[Chunk], Iterator[Record | Trouble]]

_DELIMITERS = {"csv": ",", "tsv": "\t"}
# A whole number beyond 64 bits comes out of the fast parser as a float of at least this size.
_EXACT = float(1 << 63)


def rows(chunk: Chunk) -> Iterator[Record | Trouble]:
    """The rows of a chunk, in order; a record that is not one comes as a Trouble, and the rest goes on."""
    return READERS[chunk.kind](chunk)


def _json_lines(chunk: Chunk) -> Iterator[Record | Trouble]:
    loads = orjson.loads
    for line, text in enumerate(chunk.data.split(b"\n"), chunk.line):
        if not text or text.isspace():
            continue
        try:
            value = loads(text)
            if type(value) is not dict:
                yield Trouble(line, 1, 'each line must be a JSON object, such as {"id": 1, "text": "..."}')
                continue
            if _is_large(value.values()):
                _check_numbers(text)
        except orjson.JSONDecodeError as error:
            yield Trouble(line, error.colno, f"not valid JSON: {error.msg}")
        except (ValueError, RecursionError) as error:
            yield Trouble(line, 0, str(error))
        else:
            yield line, value


def _separated(chunk: Chunk) -> Iterator[Record | Trouble]:
    csv.field_size_limit(RECORD_BYTES)
    header, columns = chunk.header, len(chunk.header)
    text = io.StringIO(chunk.data.decode(), newline="")
    reader = csv.reader(text, delimiter=_DELIMITERS[chunk.kind], strict=True)
    line = chunk.line
    for record in reader:
        if len(record) == columns:
            yield line, dict(zip(header, record, strict=True))
        elif record:
            yield Trouble(line, 0, f"{len(record)} fields where the header has {columns}")
        line = chunk.line + reader.line_num


READERS: dict[str, Reader] = {"jsonl": _json_lines, "csv": _separated, "tsv": _separated}


def _is_large(values: Any) -> bool:
    """Whether a float is among `values`, however deep, that may have been a whole number beyond 64 bits."""
    for value in values:
        kind = type(value)
        if kind is str or kind is int:
            continue
        if kind is float:
            if not -_EXACT < value < _EXACT:
                return True
        elif (kind is dict and _is_large(value.values())) or (kind is list and _is_large(value)):
            return True
    return False


def _check_numbers(line: bytes) -> None:
    """Raise ValueError for a whole number beyond 64 bits, which would not come out as it was written."""
    import json  # noqa: PLC0415  only lines with such numbers need the slow parser

    def integer(text: str) -> int:
        # Compared by length first: the text may have more digits than int() takes.
        if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 64:
            raise ValueError(f"the integer {text[:24]} is beyond 64 bits; write it as a string")
        return int(text)

    json.loads(line, parse_int=integer)
