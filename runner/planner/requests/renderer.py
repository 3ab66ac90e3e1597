"""Render a chunk of records to request lines, as a pure function of its bytes.

Workers import it, so it imports little, and not NumPy.
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
from runner.planner.templates.environment import Render, Templates, column_names
from runner.planner.templates.step_limit import RowError

PACK = struct.Struct("<20sI16sIH")
"""A row of the spool: digest of its key, bytes of its line, digest of its id, line and file in the input."""
SPAN_ROWS = 4096
"""Most rows of a span."""
MAX_CHUNK_PROBLEMS = 20
"""Problems reported per chunk; further ones are counted."""
_NO_ID = bytes(16)


Buffer = bytes | bytearray


@dataclass(frozen=True, slots=True)
class Rendered:
    """One rendered chunk. `records` are PACKed; `ids` are JSON lines, empty if rows are numbered.

    `spans` are (rows, bytes of their lines). `seen` counts records, `bad` those with problems.
    """

    records: Buffer
    lines: Buffer
    ids: Buffer
    spans: tuple[tuple[int, int], ...]
    seen: int
    bad: int
    problems: tuple[RowProblem, ...]
    findings: tuple[Finding, ...] = ()


class Renderer:
    """Renders one job's chunks. Raises jinja2.TemplateError for invalid templates."""

    def __init__(self, layout: RequestLayout, templates: Templates) -> None:
        self._id_columns = layout.id_columns
        self._encode_id = _id_encoder(layout.id_columns)
        self._identify = _identifier(layout.id_columns)
        first, slots = _split(layout)
        self._checks = RowChecks(layout.rules)
        compiled = [(_compiled(templates, slot), end, self._checks.text_check(slot.rule)) for slot, end in slots]
        self._request = _request_builder(layout, templates, first, compiled, self._checks)

    def render(self, chunk: Chunk) -> Rendered:
        """Render a chunk."""
        # A few growing buffers: separate objects would take ten times the memory.
        records, lines, ids = bytearray(), bytearray(), bytearray()
        spans: list[tuple[int, int]] = []
        problems: list[RowProblem] = []
        rows_of_span, span_at = 0, 0
        bad, seen = 0, 0
        pack, file, id_end = PACK.pack, chunk.file_number, b"\n" if self._id_columns else b""
        request, identify = self._request, self._identify
        checks, found = self._checks, self._checks.found
        for record in rows(chunk):
            seen += 1
            if type(record) is tuple:
                at, row = record
                try:
                    row_id, id_digest = identify(row)
                    digest, line = request(row)
                except RowError as error:
                    problem = self._row_problem(seen - 1, at, row, error)
                else:
                    ids += row_id + id_end
                    if found:
                        checks.record(seen - 1, row_id)
                    records += pack(digest, len(line), id_digest, at, file)
                    lines += line
                    rows_of_span += 1
                    if rows_of_span == SPAN_ROWS:
                        spans.append((rows_of_span, len(lines) - span_at))
                        rows_of_span, span_at = 0, len(lines)
                    continue
            else:
                assert isinstance(record, RowProblem)
                problem = record
            bad += 1
            if len(problems) < MAX_CHUNK_PROBLEMS:
                problems.append(problem)
        if rows_of_span:
            spans.append((rows_of_span, len(lines) - span_at))
        return Rendered(records, lines, ids, tuple(spans), seen, bad, tuple(problems), checks.drain())

    def requests(self, chunk: Chunk) -> Iterator[RowProblem | tuple[bytes, bytes]]:
        """Yield each row's (id as JSON, empty if numbered, and line)."""
        for position, record in enumerate(rows(chunk)):
            if isinstance(record, RowProblem):
                yield record
                continue
            try:
                row_id = b"" if not self._id_columns else self._encode_id(record[1])
                yield row_id, self._request(record[1])[1]
            except RowError as error:
                yield self._row_problem(position, *record, error)

    def _row_problem(self, position: int, line: int, row: dict[str, Any], error: RowError) -> RowProblem:
        if isinstance(error, _IdError):
            return RowProblem(line, 0, str(error), code=error.code, public=error.public)
        if not self._id_columns:
            return RowProblem(line, 0, str(error), position, code=error.code, public=error.public)
        text = f"row {self._encode_id(row).decode()}: {error}"
        return RowProblem(line, 0, text, code=error.code, public=error.public)


class _IdError(RowError):
    code = "BS204"


class _SizeError(RowError):
    """A request is larger than a batch file may be."""

    code = "BS208"


def _compiled(templates: Templates, slot: Slot) -> Render:
    return templates.compile_file(slot.text) if slot.is_file else templates.compile_text(slot.text, slot.label)


def _request_builder(
    layout: RequestLayout,
    templates: Templates,
    first: bytes,
    slots: Sequence[tuple[Render, bytes, Callable[[str], None] | None]],
    checks: RowChecks,
) -> Callable[[dict[str, Any]], tuple[bytes, bytes]]:
    namespace, dumps, max_bytes = templates.namespace, orjson.dumps, layout.max_bytes
    head, tail = layout.line_template.head + VERSION.encode() + b"-", layout.line_template.tail
    middle = layout.line_template.middle + first
    before = key_state(layout.line_format, layout.endpoint, layout.salt)
    before.update(first)
    json_check, unchecked_bytes = checks.check_json, checks.unchecked_bytes

    def request(row: dict[str, Any]) -> tuple[bytes, bytes]:
        values = namespace(row)
        state = before.copy()
        parts = [head, b"", middle]
        for render, after, check in slots:
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
        # An ordinal adds at most eleven bytes to the key.
        if len(line) + 11 > max_bytes:
            raise _SizeError(f"the request has {len(line)} bytes; a batch file may have at most {max_bytes}")
        if json_check is not None or len(line) > unchecked_bytes:
            checks.check_line(line)
        return digest, line

    return request


def _identifier(names: Sequence[str]) -> Callable[[dict[str, Any]], tuple[bytes, bytes]]:
    """Return a function from a row to its id as JSON and the id's digest; empty and zero if numbered."""
    if not names:
        return lambda _row: (b"", _NO_ID)
    encode_id, hashing = _id_encoder(names), blake2b(digest_size=16)

    def identify(row: dict[str, Any]) -> tuple[bytes, bytes]:
        row_id = encode_id(row)
        state = hashing.copy()
        state.update(row_id)
        return row_id, state.digest()

    return identify


def _id_encoder(names: Sequence[str]) -> Callable[[dict[str, Any]], bytes]:
    dumps, only = orjson.dumps, names[0] if len(names) == 1 else None

    def row_id(row: dict[str, Any]) -> bytes:
        try:
            return dumps([_id_value(row, name) for name in names] if only is None else _id_value(row, only))
        except orjson.JSONEncodeError as error:
            raise _IdError(f"the id in column {', '.join(names)} is not valid Unicode") from error

    return row_id


def _id_value(row: dict[str, Any], column: str) -> str | int:
    value = row.get(column)
    if type(value) is not str and type(value) is not int:
        if column not in row:
            missing = f"the row has no column {column}, which `input.id` names"
            raise _IdError(f"{missing}; it has: {column_names(row)}", missing)
        raise _IdError(f"the id in column {column} must be text or a whole number")
    if value == "":
        raise _IdError(f"the id in column {column} is empty")
    return value


def _split(layout: RequestLayout) -> tuple[bytes, list[tuple[Slot, bytes]]]:
    first = b""
    slots: list[tuple[Slot, bytes]] = []
    for piece in layout.pieces:
        if isinstance(piece, Slot):
            slots.append((piece, b""))
        elif slots:
            slots[-1] = (slots[-1][0], slots[-1][1] + piece)
        else:
            first += piece
    return first, slots
