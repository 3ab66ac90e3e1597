"""Cut a byte stream into chunks of whole records: JSON lines, JSON arrays, and separated values."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence

from runner.errors import InputError, Problem
from runner.planner.input.parse import FRAMED, NOT_UTF8, RECORD_BYTES, Chunk, frame_record
from runner.planner.input.streams import CHUNK_BYTES, Stream

_DELIMITERS = {"csv": ",", "tsv": "\t"}
_SPACE = re.compile(r"[ \t\r\n]*")
_PIECE_CHARACTERS = 1 << 16


def lines(stream: Stream, path: str, number: int, kind: str) -> Iterator[Chunk]:
    """Cut JSON lines."""
    line, partial = 1, _PartialLine()
    while data := stream.read(CHUNK_BYTES):
        cut = data.rfind(b"\n") + 1
        if not cut:
            partial.add(data)
            if partial.size > RECORD_BYTES:
                raise InputError([Problem(path, line, 0, f"the line is longer than {RECORD_BYTES} bytes")])
            continue
        complete = partial.drain() + data[:cut]
        partial.add(data[cut:])
        yield Chunk(number, line, kind, complete)
        line += complete.count(b"\n")
    if partial.size:
        yield Chunk(number, line, kind, partial.drain())


class _PartialLine:
    """An unfinished line's pieces: joining each would be quadratic."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self.size += len(data)

    def drain(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return data


class _LineReader:
    """Lines for the CSV reader, kept so that chunks end between records.

    Latin-1 decodes one character a byte; separators are the same in UTF-8. Parsing reports invalid UTF-8.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._next = 0
        self._partial = _PartialLine()
        self.lines_taken: list[bytes] = []
        self.size = 0

    def __iter__(self) -> _LineReader:
        return self

    def __next__(self) -> str:
        while self._next >= len(self._lines):
            self._fill()
        line = self._lines[self._next]
        self._next += 1
        self.lines_taken.append(line)
        self.size += len(line)
        return line.decode("latin-1")

    def _fill(self) -> None:
        data = self._stream.read(CHUNK_BYTES)
        while data and b"\n" not in data:
            self._partial.add(data)
            if self._partial.size > RECORD_BYTES:
                raise csv.Error(f"a line is longer than {RECORD_BYTES} bytes")
            data = self._stream.read(CHUNK_BYTES)
        complete = self._partial.drain() + data
        parts = _split(complete) if b"\r" in complete else complete.splitlines(keepends=True)
        if data and parts:
            self._partial.add(parts.pop())
        elif not parts:
            raise StopIteration
        self._lines, self._next = parts, 0

    def drain(self) -> bytes:
        data = b"".join(self.lines_taken)
        self.lines_taken, self.size = [], 0
        return data


def _split(data: bytes) -> list[bytes]:
    """Split at line feeds only: fields may contain carriage returns."""
    parts = [part + b"\n" for part in data.split(b"\n")]
    last = parts.pop()[:-1]
    return [*parts, last] if last else parts


def separated(stream: Stream, path: str, number: int, kind: str, delimiter: str = "") -> Iterator[Chunk]:
    """Cut values separated by commas, tabs or `delimiter`; the first line names the columns."""
    default_delimiter = "" if delimiter else _DELIMITERS[kind]
    delimiter = delimiter or default_delimiter
    csv.field_size_limit(RECORD_BYTES)
    source = _LineReader(stream)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    line, complete = 1, 0
    header: tuple[str, ...] = ()
    try:
        header = _header(next(reader, None), path, default_delimiter)
        source.drain()
        line = reader.line_num + 1
        for _ in reader:
            complete = len(source.lines_taken)
            if source.size >= CHUNK_BYTES:
                yield Chunk(number, line, kind, source.drain(), header, delimiter)
                line, complete = reader.line_num + 1, 0
        if source.size:
            yield Chunk(number, line, kind, source.drain(), header, delimiter)
    except csv.Error as error:
        if complete:
            yield Chunk(number, line, kind, b"".join(source.lines_taken[:complete]), header, delimiter)
        message = str(error)
        if "unexpected end of data" in message:
            message = "a quote that was opened is never closed"
        at = line + complete
        raise InputError([Problem(path, at, 0, f"not valid {kind}: {message}")]) from error


def _header(names: Sequence[str] | None, path: str, default_delimiter: str) -> tuple[str, ...]:
    if not names:
        problem = "the file is empty; its first line" if names is None else "the first line is empty; it"
        raise InputError([Problem(path, 1, 0, f"{problem} must name the columns")])
    try:
        header = tuple(name.encode("latin-1").decode() for name in names)
    except UnicodeDecodeError as error:
        raise InputError([Problem(path, 1, 0, "the column names are not UTF-8; set `encoding`")]) from error
    if problem := _header_problem(header, default_delimiter):
        raise InputError([Problem(path, 1, 0, problem)])
    return header


def _header_problem(header: tuple[str, ...], default_delimiter: str) -> str:
    mark = next((mark for mark in ";\t|," if mark in header[0] and mark != default_delimiter), "")
    if len(header) == 1 and default_delimiter and mark:
        shown = {"\t": "tabs"}.get(mark, mark)
        say = f"set `delimiter: {json.dumps(mark)}` under `input`"
        return f"the header is one column, {header[0][:60]!r}: if values are separated by {shown}, {say}"
    repeated = sorted({name for name in header if header.count(name) > 1})
    return f"the header names {', '.join(repeated)} twice" if repeated else ""


def json_array(stream: Stream, path: str, number: int, _kind: str) -> Iterator[Chunk]:
    """Cut a list of objects without reading all of it."""
    records: list[bytes] = []
    size = 0

    def chunk() -> Chunk:
        return Chunk(number, 1, f"jsonl{FRAMED}", b"".join(records))

    try:
        for line, element in _elements(_TextCursor(stream, path), path):
            records.append(frame_record(line, element.encode()))
            size += len(records[-1])
            if size >= CHUNK_BYTES:
                yield chunk()
                records, size = [], 0
    except InputError:
        if records:
            yield chunk()
        raise
    if records:
        yield chunk()


def _elements(text: _TextCursor, path: str) -> Iterator[tuple[int, str]]:
    if not (mark := text.skip()):
        raise InputError([Problem(path, text.line, 0, "the file is empty; it must hold a list of objects: [{...}]")])
    if mark != "[":
        message = "the file must hold a list of objects: [{...}, {...}]; for one object per line, set `format: jsonl`"
        raise InputError([Problem(path, text.line, 0, message)])
    text.advance(1)
    first = True
    while (mark := text.skip()) != "]":
        if not first:
            if mark != ",":
                raise InputError([Problem(path, text.line, 0, "not valid JSON: a comma or ] is missing between rows")])
            text.advance(1)
            text.skip()
        first = False
        yield text.line, text.element()
    text.advance(1)
    if text.skip():
        raise InputError([Problem(path, text.line, 0, "not valid JSON: text after the end of the list")])


class _TextCursor:
    def __init__(self, stream: Stream, path: str) -> None:
        import codecs  # noqa: PLC0415  only here

        self._stream = stream
        self._path = path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        # Skip over numbers here; they are checked later, with their row.
        self._scan = json.JSONDecoder(parse_int=len, parse_float=len).raw_decode
        self._text = ""
        self._at = 0
        self._at_end = False
        self.line = 1

    def skip(self) -> str:
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self.advance(match.end() - self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more(_PIECE_CHARACTERS):
                return ""

    def advance(self, count: int) -> None:
        self.line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def element(self) -> str:
        size = _PIECE_CHARACTERS
        while True:
            try:
                _, end = self._scan(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at >= RECORD_BYTES:
                    message = f"this row is longer than {RECORD_BYTES} characters"
                    raise InputError([Problem(self._path, self.line, 0, message)]) from error
                if self._read_more(size):
                    size *= 2  # limits rescans of a long element
                    continue
                before = self._text.rfind("\n", 0, error.pos) + 1
                line = self.line + self._text.count("\n", self._at, error.pos)
                problem = Problem(self._path, line, error.pos - before + 1, f"not valid JSON: {error.msg.lower()}")
                raise InputError([problem]) from error
            except RecursionError as error:
                raise InputError([Problem(self._path, self.line, 0, "this row is nested too deep")]) from error
            if end == len(self._text) and self._read_more(size):
                continue  # a number may continue
            element = self._text[self._at : end]
            self.advance(end - self._at)
            return element

    def _read_more(self, size: int) -> bool:
        if self._at_end:
            return False
        data = self._stream.read(size)
        self._at_end = not data
        try:
            decoded = self._decoder.decode(data, final=self._at_end)
        except UnicodeDecodeError as error:
            line = self.line + self._text.count("\n", self._at) + error.object.count(b"\n", 0, error.start)
            message = NOT_UTF8.format(error.object[error.start])
            raise InputError([Problem(self._path, line, 0, message)]) from error
        if not decoded:
            return not self._at_end
        # Keep the last line's start, for column numbers.
        start = self._text.rfind("\n", 0, self._at) + 1
        self._text = self._text[start:] + decoded
        self._at -= start
        return not self._at_end
