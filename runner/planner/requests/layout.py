"""The layout of a job's request lines: constant bytes, and slots for rendered text.

Field order is fixed, parameters are sorted. Any change here changes keys and needs a new key version (`k2`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from runner.planner.requests.refusal_rules import Limits, Rules, rule_of, rules_of
from runner.planner.templates.environment import is_constant

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec
    from runner.jobspec.models import Job, Role, Turn


@dataclass(frozen=True, slots=True)
class LineTemplate:
    """A line: `head` + key + `middle` + body + `tail`."""

    head: bytes
    middle: bytes
    tail: bytes

    def line(self, key: bytes, body: bytes) -> bytes:
        """Return the line with its line end."""
        return b"".join((self.head, key, self.middle, body, self.tail))


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for rendered text: inline Jinja, or a template's path if `is_file`.

    `path` is its place below `prompt`; `label` names inline text in messages. `rule` is the service's rule for the
    text; see `refusal_rules`.
    """

    path: tuple[str | int, ...]
    text: str
    is_file: bool
    label: str
    rule: str = ""


Piece = bytes | Slot


@dataclass(frozen=True, slots=True)
class RequestLayout:
    """What rendering needs of a job. `pieces` are the body's, with adjacent constants joined.

    `id_columns` is empty for numbered rows; `max_bytes` is the longest line.
    """

    line_template: LineTemplate
    pieces: tuple[Piece, ...]
    line_format: str
    endpoint: str
    salt: str
    variables: dict[str, Any]
    id_columns: tuple[str, ...]
    max_bytes: int
    rules: Rules


def build_layout(spec: JobSpec, limits: Limits | None = None) -> RequestLayout:
    """Return a job's layout; without `limits`, skip their checks."""
    job = spec.job
    line, pieces = line_template(job), _pieces(spec)
    constants = [line.head, line.middle, line.tail, *(piece for piece in pieces if isinstance(piece, bytes))]
    return RequestLayout(
        line,
        pieces,
        job.line_format,
        job.url,
        job.salt,
        dict(job.vars),
        job.input.id_columns,
        job.shards.max_bytes,
        rules_of(spec, constants, limits),
    )


def line_template(job: Job) -> LineTemplate:
    """Return a job's line format (reference: OpenAI's and Anthropic's batch input lines)."""
    if job.line_format == "anthropic":
        return LineTemplate(b'{"custom_id":"', b'","params":', b"}\n")
    middle = b'","method":"POST","url":' + orjson.dumps(job.url) + b',"body":'
    return LineTemplate(b'{"custom_id":"', middle, b"}\n")


def _pieces(spec: JobSpec) -> tuple[Piece, ...]:
    """Return the body's pieces; text without Jinja is constant."""
    pieces: list[Piece] = []
    for piece in _fields(spec):
        if isinstance(piece, bytes) and pieces and isinstance(pieces[-1], bytes):
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)


def _fields(spec: JobSpec) -> Iterator[Piece]:
    job = spec.job
    parameters = spec.parameters
    parts = [(turn.role, _text_piece(spec, turn, rule_of(job, number))) for number, turn in enumerate(job.prompt.turns)]
    yield b'{"model":' + orjson.dumps(job.model)
    if job.url == "/v1/chat/completions":
        yield b',"messages":'
        yield from _messages(parts)
    else:
        name, rest = (b"instructions", b"input") if job.url else (b"system", b"messages")
        if parts[0][0] == "system":
            yield b',"' + name + b'":'
            yield parts[0][1]
            parts = parts[1:]
        yield b',"' + rest + b'":'
        if job.url and len(parts) == 1 and parts[0][0] == "user":
            yield parts[0][1]
        else:
            yield from _messages(parts)
    yield b"".join(b"," + orjson.dumps(k) + b":" + orjson.dumps(parameters[k]) for k in sorted(parameters))
    yield b"}"


def _messages(parts: Sequence[tuple[Role, Piece]]) -> Iterator[Piece]:
    start = b"["
    for role, text in parts:
        yield start + b'{"role":' + orjson.dumps(role) + b',"content":'
        yield text
        yield b"}"
        start = b","
    yield b"]"


def _text_piece(spec: JobSpec, turn: Turn, rule: str) -> Piece:
    text = turn.text
    if not isinstance(text, str):
        return Slot(turn.path, text.template, True, text.template, rule)
    label = f"{spec.file} prompt.{'.'.join(map(str, turn.path))}"
    return orjson.dumps(text) if is_constant(text) else Slot(turn.path, text, False, label, rule)
