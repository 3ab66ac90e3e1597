"""A job's request body as a frame: constant bytes with holes where rendered text goes.

The body is the bytes that are sent: our fields in a fixed order, parameters sorted by name, and inside a parameter
(schemas, tools) the user's own order. Whatever changes here changes keys, and that makes `k2`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import orjson

from runner.errors import Problem, SpecError
from runner.keys import body_digest, key_state
from runner.planner.templates import Templates, is_constant, namespace, syntax_problem
from runner.spec.load import JobSpec
from runner.spec.models import Job, Role, TemplateRef, Turn

Render = Callable[[Mapping[str, Any]], str]
Part = tuple[Role, str | Render]
"""One message: who speaks, and text that is the same for every row or a function of the row."""
Piece = bytes | str | Render
"""A body's JSON in pieces: bytes as they are, or text that becomes a JSON string."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The bytes around a body on its line: `head` + key + `middle` + body + `tail`."""

    head: bytes
    middle: bytes
    tail: bytes

    def line(self, key: bytes, body: bytes) -> bytes:
        """The whole line, with its line end."""
        return b"".join((self.head, key, self.middle, body, self.tail))

    def size(self, key_length: int, body_length: int) -> int:
        """Bytes of that line."""
        return len(self.head) + key_length + len(self.middle) + body_length + len(self.tail)


def envelope(job: Job) -> Envelope:
    """The line format of a job (reference: OpenAI's and Anthropic's batch input lines)."""
    if job.line_format == "anthropic":
        return Envelope(b'{"custom_id":"', b'","params":', b"}\n")
    middle = b'","method":"POST","url":' + orjson.dumps(job.url) + b',"body":'
    return Envelope(b'{"custom_id":"', middle, b"}\n")


class Bodies:
    """Renders rows of one job into bodies and their key digests."""

    def __init__(self, job: Job, parts: Sequence[Part]) -> None:
        self._variables = dict(job.vars)
        self._pieces = _joined(_fields(job, parts))
        self._state = key_state(job.line_format, job.url, job.salt)

    def body(self, row: Mapping[str, Any]) -> bytes:
        """The body for one row. Raises RowError, or orjson.JSONEncodeError for text that is not valid Unicode."""
        values = namespace(row, self._variables)
        return b"".join(piece if isinstance(piece, bytes) else orjson.dumps(piece(values)) for piece in self._pieces)

    def digest(self, body: bytes) -> bytes:
        """The key's 20 digest bytes for a body."""
        return body_digest(self._state, body)


def compile_bodies(spec: JobSpec, templates: Templates) -> Bodies:
    """The frame of a job with its templates compiled. Raises SpecError where a template is not valid."""
    parts: list[Part] = []
    problems: list[Problem] = []
    for turn in spec.job.prompt.turns:
        try:
            parts.append((turn.role, _text(spec, turn, templates)))
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return Bodies(spec.job, parts)


def _text(spec: JobSpec, turn: Turn, templates: Templates) -> str | Render:
    text = turn.text
    try:
        if isinstance(text, TemplateRef):
            return templates.compile_file(text.template)
        label = f"{spec.file} prompt.{'.'.join(map(str, turn.path))}"
        return text if is_constant(text) else templates.compile_text(text, label)
    except jinja2.TemplateError as error:
        keys = (*turn.path, "template") if isinstance(text, TemplateRef) else turn.path
        raise syntax_problem(error, spec.problem("", "prompt", *keys)) from error


def _joined(pieces: Iterable[Piece]) -> list[bytes | Render]:
    """Constants and renderers, alternating; text that is the same for every row is a constant too."""
    joined: list[bytes | Render] = []
    for piece in pieces:
        constant = orjson.dumps(piece) if isinstance(piece, str) else piece
        if isinstance(constant, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += constant
        else:
            joined.append(constant)
    return joined


def _fields(job: Job, parts: Sequence[Part]) -> Iterator[Piece]:
    """A body's pieces in the order they are sent: model, system prompt, messages, parameters by name."""
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
    yield b"".join(b"," + orjson.dumps(k) + b":" + orjson.dumps(job.parameters[k]) for k in sorted(job.parameters))
    yield b"}"


def _messages(parts: Sequence[Part]) -> Iterator[Piece]:
    start = b"["
    for role, text in parts:
        yield start + b'{"role":' + orjson.dumps(role) + b',"content":'
        yield text
        yield b"}"
        start = b","
    yield b"]"
