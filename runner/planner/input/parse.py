"""Parse a chunk's bytes into rows. Workers import it, so it imports little."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from runner.base.humanize import counted


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records of one file, as UTF-8 bytes, from `line` on.

    `header` names the columns if the records don't.
    """

    file_number: int
    line: int
    kind: str
    data: bytes
    header: tuple[str, ...] = ()
    delimiter: str = ""


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A problem of one record; `column` is 0 if unknown.

    `position` counts from 0 within the chunk, for rows without an id; otherwise -1. `public` omits the row's content.
    """

    line: int
    column: int
    message: str
    position: int = -1
    code: str = "BS203"
    public: str = ""


RECORD_BYTES = 64 << 20
"""Longest record. A longer one is an error, so that a file without line ends can't fill the memory."""

Record = tuple[int, dict[str, Any]]
"""A row: the line it starts on, and its columns."""
Reader = Callable[[Chunk], Iterator[Record | RowProblem]]

NOT_UTF8 = "byte 0x{:02x} is not UTF-8; if the file has another encoding, set `encoding`"
_OBJECT = '{"id": 1, "text": "..."}'
_NO_JSON = re.compile(rb"-?(NaN|Infinity|nan|inf)\b")
_REASONS = {
    "number is infinity": "this number is too large for JSON readers, which take doubles; write it as text, in quotes",
    "surrogate": "half of a surrogate pair is not a character; write the whole pair, or remove it",
    "ecursion limit": "this row is nested too deep",
    "depth": "this row is nested too deep",
}
"""Our message by a part of the parser's message."""
_SURROGATE = re.compile("[\udc80-\udcff]")
# The fast parser turns integers beyond 64 bits into floats of at least this size.
_MAX_EXACT = float(1 << 63)


def rows(chunk: Chunk) -> Iterator[Record | RowProblem]:
    """Yield a chunk's rows, with a RowProblem for each bad record."""
    return READERS[chunk.kind](chunk)


def _json_lines(chunk: Chunk) -> Iterator[Record | RowProblem]:
    loads = orjson.loads
    for line, text in enumerate(chunk.data.split(b"\n"), chunk.line):
        if not text or text.isspace():
            continue
        try:
            value = loads(text)
            if type(value) is not dict:
                yield RowProblem(line, 1, f"each line must be a JSON object, such as {_OBJECT}")
                continue
            if text.count(b":") != len(value):
                _check_keys(text, value)
            if _is_large(value.values()):
                _check_numbers(text)
        except orjson.JSONDecodeError as error:
            yield _not_json(line, error, text)
        except (ValueError, RecursionError) as error:
            yield RowProblem(line, 0, str(error))
        else:
            yield line, value


def _json_text(line: int, text: bytes) -> Record | RowProblem:
    try:
        value = orjson.loads(text)
        if type(value) is not dict:
            return RowProblem(line, 0, f"each row must be a JSON object, such as {_OBJECT}")
        if text.count(b":") != len(value):
            _check_keys(text, value)
        if _is_large(value.values()):
            _check_numbers(text)
    except orjson.JSONDecodeError as error:
        return _not_json(line + error.lineno - 1, error, text)
    except (ValueError, RecursionError) as error:
        return RowProblem(line, 0, str(error))
    return line, value


def _not_json(line: int, error: orjson.JSONDecodeError, text: bytes) -> RowProblem:
    try:
        text.decode()
    except UnicodeDecodeError as wrong:
        return RowProblem(line, *_not_utf8(text, wrong))
    if _NO_JSON.match(text, error.pos):
        match = _NO_JSON.match(text, error.pos)
        assert match is not None
        return RowProblem(
            line, error.colno, f"not valid JSON, which has no {match[0].decode()}: write null, or the text in quotes"
        )
    reason = next((reason for part, reason in _REASONS.items() if part in error.msg), f"not valid JSON: {error.msg}")
    return RowProblem(line, error.colno, reason)


def _not_utf8(text: bytes, error: UnicodeDecodeError) -> tuple[int, str]:
    column = len(text[: error.start].decode()) + 1
    return column, NOT_UTF8.format(text[error.start])


def _separated(chunk: Chunk) -> Iterator[Record | RowProblem]:
    return _records(chunk.data, chunk.line, chunk.delimiter, chunk.header)


def _records(data: bytes, first_line: int, delimiter: str, header: tuple[str, ...]) -> Iterator[Record | RowProblem]:
    csv.field_size_limit(RECORD_BYTES)
    columns, is_utf8 = len(header), True
    try:
        text = data.decode()
    except UnicodeDecodeError:
        # Each bad byte becomes a surrogate, which valid UTF-8 can't contain, so only its record fails.
        text, is_utf8 = data.decode(errors="surrogateescape"), False
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = first_line
    for record in reader:
        if not is_utf8 and _SURROGATE.search("".join(record)):
            yield _encoding_problem(data, first_line, line)
        elif len(record) == columns:
            yield line, dict(zip(header, record, strict=True))
        elif record:
            yield RowProblem(line, 0, _field_count_error(record, header))
        line = first_line + reader.line_num


def _field_count_error(record: list[str], header: tuple[str, ...]) -> str:
    count = f"{counted(len(record), 'field')}, but the header has {len(header)}"
    if len(record) > len(header):
        return f"{count}; is there a delimiter in a text without quotes?"
    missing = header[len(record) :]
    return f"{count}; missing: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}"


def _encoding_problem(data: bytes, first_line: int, line: int) -> RowProblem:
    for number, text in enumerate(data.split(b"\n")[line - first_line :], line):
        try:
            text.decode()
        except UnicodeDecodeError as error:
            return RowProblem(number, *_not_utf8(text, error))
    return RowProblem(line, 0, "the record is not UTF-8")


def frame_record(line: int, text: bytes) -> bytes:
    """Prefix a record with its line in the file."""
    return b"%d %d\n" % (line, len(text)) + text


def framed(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (line, text) of framed records."""
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        line, size = map(int, data[at:end].split())
        yield line, data[end + 1 : end + 1 + size]
        at = end + 1 + size


def _framed_json(chunk: Chunk) -> Iterator[Record | RowProblem]:
    for line, text in framed(chunk.data):
        yield _json_text(line, text)


def _framed_separated(chunk: Chunk) -> Iterator[Record | RowProblem]:
    for line, text in framed(chunk.data):
        yield from _records(text, line, chunk.delimiter, chunk.header)


FRAMED = "+"
"""Suffix of a chunk's kind: its records are framed."""
READERS: dict[str, Reader] = {
    "jsonl": _json_lines,
    "csv": _separated,
    "tsv": _separated,
    f"jsonl{FRAMED}": _framed_json,
    f"csv{FRAMED}": _framed_separated,
    f"tsv{FRAMED}": _framed_separated,
}


def _is_large(values: Any) -> bool:
    """Return whether any float may be an integer beyond 64 bits."""
    for value in values:
        kind = type(value)
        if kind is str or kind is int:
            continue
        if kind is float:
            if not -_MAX_EXACT < value < _MAX_EXACT:
                return True
        elif (kind is dict and _is_large(value.values())) or (kind is list and _is_large(value)):
            return True
    return False


def _check_keys(text: bytes, value: dict[str, Any]) -> None:
    """Raise ValueError for a duplicate key; the fast parser keeps the last value.

    Fast path: if all colons belong to keys, there are as many colons as keys.
    """
    keys = _keys(value)
    if text.count(b":") == keys or sum(map(text.count, _KEY_ENDS)) == keys:
        return
    import json  # noqa: PLC0415  only rows with such text need the slow parser

    json.loads(text, object_pairs_hook=_unique_keys)


_KEY_ENDS = (b'":', b" :", b"\t:", b"\n:", b"\r:")


def _keys(value: Any) -> int:
    count = 0
    if type(value) is dict:
        count, value = len(value), value.values()
    for item in value:
        kind = type(item)
        if kind is dict or kind is list:
            count += _keys(item)
    return count


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {name[:60]} in one object; remove one of them")
    return found


def _check_numbers(line: bytes) -> None:
    """Raise ValueError beyond 64 bits: the fast parser would change the integer."""
    import json  # noqa: PLC0415  only lines with such numbers need the slow parser

    def integer(text: str) -> int:
        # Compared by length first: the text may have more digits than int() takes.
        if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 64:
            raise ValueError(f"the integer {text[:24]} is beyond 64 bits; write it as a string")
        return int(text)

    json.loads(line, parse_int=integer)
