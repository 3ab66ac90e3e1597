"""One chunk of records to request lines: parse, render, encode, hash. A pure function of the chunk's bytes.

Runs in this process or in workers, so it imports little, and NumPy not at all.
"""

from __future__ import annotations

import struct
from binascii import hexlify
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from runner.base.keys import DIGEST_BYTES, VERSION, key_state
from runner.planner.input.parse import Chunk, RowProblem, rows
from runner.planner.requests.layout import RequestLayout, Slot
from runner.planner.requests.refusal_rules import Finding, RowChecks
from runner.planner.templates.environment import Render, Templates, columns
from runner.planner.templates.step_limit import RowError

PACK = struct.Struct("<20sI16sIH")
"""A row of the spool: digest of its body's key, bytes of its line, digest of its id, line and file in the input."""
SPAN_ROWS = 4096
"""The most rows of a span; what is done row by row is done a few spans at a time."""
MAX_TROUBLES = 20
"""Troubles that are told of one chunk; more are counted."""
_NO_ID = bytes(16)


Buffer = bytes | bytearray


@dataclass(frozen=True, slots=True)
class Rendered:
    """One chunk, rendered. `records` are PACKed, `ids` JSON, a line each, empty where rows are numbered.

    `spans` are (rows, bytes of their lines), in order. `seen` counts the chunk's records, `bad` those in trouble.
    """

    records: Buffer
    lines: Buffer
    ids: Buffer
    spans: tuple[tuple[int, int], ...]
    seen: int
    bad: int
    troubles: tuple[RowProblem, ...]
    findings: tuple[Finding, ...] = ()


class Renderer:
    """Renders chunks of one job. Raises jinja2.TemplateError where a template does not compile."""

    def __init__(self, frame: RequestLayout, templates: Templates) -> None:
        self._id_columns = frame.id_columns
        self._identity = _identifier(frame.id_columns)
        first, holes = _split(frame)
        self._checks = RowChecks(frame.rules)
        compiled = [(_compiled(templates, hole), end, self._checks.of(hole.rule)) for hole, end in holes]
        self._request = _requester(frame, templates, first, compiled, self._checks)

    def render(self, chunk: Chunk) -> Rendered:
        """Render all rows of a chunk."""
        # Bytes are gathered in a few growing buffers: as objects of their own they would take ten times the memory.
        records, lines, ids = bytearray(), bytearray(), bytearray()
        spans: list[tuple[int, int]] = []
        troubles: list[RowProblem] = []
        rows_of_span, span_at = 0, 0
        bad, seen = 0, 0
        pack, file, numbered = PACK.pack, chunk.file_number, not self._id_columns
        request, identify, hashing = self._request, self._identity, blake2b(digest_size=16)
        identity, id_digest = b"", _NO_ID
        checks, found = self._checks, self._checks.found
        for record in rows(chunk):
            seen += 1
            if type(record) is tuple:
                at, row = record
                try:
                    if not numbered:
                        identity = identify(row)
                        state = hashing.copy()
                        state.update(identity)
                        id_digest = state.digest()
                    digest, line = request(row)
                except RowError as error:
                    trouble = self._trouble(seen - 1, at, row, error)
                else:
                    if not numbered:
                        ids += identity + b"\n"
                    if found:
                        checks.note(seen - 1, identity)
                    records += pack(digest, len(line), id_digest, at, file)
                    lines += line
                    rows_of_span += 1
                    if rows_of_span == SPAN_ROWS:
                        spans.append((rows_of_span, len(lines) - span_at))
                        rows_of_span, span_at = 0, len(lines)
                    continue
            else:
                assert isinstance(record, RowProblem)
                trouble = record
            bad += 1
            if len(troubles) < MAX_TROUBLES:
                troubles.append(trouble)
        if rows_of_span:
            spans.append((rows_of_span, len(lines) - span_at))
        return Rendered(records, lines, ids, tuple(spans), seen, bad, tuple(troubles), checks.take())

    def requests(self, chunk: Chunk) -> Iterator[RowProblem | tuple[bytes, bytes]]:
        """(row id as JSON, line) for each row of a chunk; the id is empty where rows are numbered."""
        for position, record in enumerate(rows(chunk)):
            if isinstance(record, RowProblem):
                yield record
                continue
            try:
                identity = b"" if not self._id_columns else self._identity(record[1])
                yield identity, self._request(record[1])[1]
            except RowError as error:
                yield self._trouble(position, *record, error)

    def _trouble(self, position: int, line: int, row: dict[str, Any], error: RowError) -> RowProblem:
        if isinstance(error, _IdError):
            return RowProblem(line, 0, str(error), code=error.code, public=error.public)
        if not self._id_columns:
            return RowProblem(line, 0, str(error), position, code=error.code, public=error.public)
        text = f"row {self._identity(row).decode()}: {error}"
        return RowProblem(line, 0, text, code=error.code, public=error.public)


class _IdError(RowError):
    """The row has no usable id."""

    code = "BS204"


class _SizeError(RowError):
    """The request is larger than a batch file may be."""

    code = "BS208"


def _compiled(templates: Templates, hole: Slot) -> Render:
    return templates.compile_file(hole.text) if hole.is_file else templates.compile_text(hole.text, hole.label)


def _requester(
    frame: RequestLayout,
    templates: Templates,
    first: bytes,
    holes: Sequence[tuple[Render, bytes, Callable[[str], None] | None]],
    checks: RowChecks,
) -> Callable[[dict[str, Any]], tuple[bytes, bytes]]:
    """A function that gives the key's digest and the whole line for a row, and raises RowError."""
    namespace, dumps, max_bytes = templates.namespace, orjson.dumps, frame.max_bytes
    head, tail = frame.envelope.head + VERSION.encode() + b"-", frame.envelope.tail
    middle = frame.envelope.middle + first
    before = key_state(frame.line_format, frame.endpoint, frame.salt)
    before.update(first)
    row_check, most_bytes = checks.row, checks.most_bytes

    def request(row: dict[str, Any]) -> tuple[bytes, bytes]:
        values = namespace(row)
        state = before.copy()
        parts = [head, b"", middle]
        for render, after, check in holes:
            rendered = render(values)
            if check is not None:
                check(rendered)
            try:
                text = dumps(rendered) + after
            except (orjson.JSONEncodeError, UnicodeError) as error:
                raise RowError("the rendered prompt is not valid Unicode") from error
            state.update(text)
            parts.append(text)
        parts.append(tail)
        digest = state.digest()[:DIGEST_BYTES]
        parts[1] = hexlify(digest)
        line = b"".join(parts)
        # An ordinal would make the key longer by at most eleven bytes.
        if len(line) + 11 > max_bytes:
            raise _SizeError(f"the request has {len(line)} bytes; a file holds {max_bytes}")
        if row_check is not None or len(line) > most_bytes:
            checks.whole(line)
        return digest, line

    return request


def _identifier(names: Sequence[str]) -> Callable[[dict[str, Any]], bytes]:
    """A function that gives a row's id as JSON: a value, or a list where several columns make it. Raises _IdError."""
    dumps, only = orjson.dumps, names[0] if len(names) == 1 else None

    def identity(row: dict[str, Any]) -> bytes:
        try:
            return dumps([_id_value(row, name) for name in names] if only is None else _id_value(row, only))
        except orjson.JSONEncodeError as error:
            raise _IdError(f"the id in column {', '.join(names)} is not valid Unicode") from error

    return identity


def _id_value(row: dict[str, Any], column: str) -> str | int:
    value = row.get(column)
    if type(value) is not str and type(value) is not int:
        if column not in row:
            missing = f"the row has no column {column}, which `input.id` names"
            raise _IdError(f"{missing}; it has: {columns(row)}", missing)
        raise _IdError(f"the id in column {column} must be text or a whole number")
    if value == "":
        raise _IdError(f"the id in column {column} is empty")
    return value


def _split(frame: RequestLayout) -> tuple[bytes, list[tuple[Slot, bytes]]]:
    """The body's first constant, and each hole with the constant after it."""
    first = b""
    holes: list[tuple[Slot, bytes]] = []
    for piece in frame.pieces:
        if isinstance(piece, Slot):
            holes.append((piece, b""))
        elif holes:
            holes[-1] = (holes[-1][0], holes[-1][1] + piece)
        else:
            first += piece
    return first, holes
