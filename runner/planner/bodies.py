"""A job's request body as a frame: constant bytes with holes where rendered text goes.

The body is the bytes that are sent: our fields in a fixed order, parameters sorted by name, and inside a parameter
(schemas, tools) the user's own order. Whatever changes here changes keys, and that makes `k2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import orjson

from runner.errors import Problem, SpecError
from runner.keys import body_digest, key_state
from runner.planner.templates import Templates, is_constant, namespace, syntax_problem
from runner.spec.load import JobSpec
from runner.spec.models import Job, TemplateRef, Text

Render = Callable[[Mapping[str, Any]], str]
Hole = str
"""The name of a prompt part that is filled in for each row: `system` or `user`."""


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

    def __init__(self, job: Job, parts: Mapping[Hole, str | Render]) -> None:
        self._variables = dict(job.vars)
        self._pieces = _pieces(job, parts)
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
    prompt = spec.job.prompt
    parts: dict[Hole, str | Render] = {}
    problems: list[Problem] = []
    for hole, text in (("system", prompt.system), ("user", prompt.user)):
        if text is None:
            continue
        try:
            parts[hole] = _part(spec, hole, text, templates)
        except SpecError as error:
            problems += error.problems
    if problems:
        raise SpecError(problems)
    return Bodies(spec.job, parts)


def _part(spec: JobSpec, hole: Hole, text: Text, templates: Templates) -> str | Render:
    keys = ("prompt", hole, "template") if isinstance(text, TemplateRef) else ("prompt", hole)
    place = spec.problem("", *keys)
    try:
        if isinstance(text, TemplateRef):
            return templates.compile_file(text.template)
        return text if is_constant(text) else templates.compile_text(text, f"{spec.file} prompt.{hole}")
    except jinja2.TemplateError as error:
        raise syntax_problem(error, place) from error


def _pieces(job: Job, parts: Mapping[Hole, str | Render]) -> list[bytes | Render]:
    """The body's JSON as constants and renderers; text that is the same for every row is a constant too."""
    pieces: list[bytes | Render] = []
    for entry in _fields(job, "system" in parts):
        if isinstance(entry, bytes):
            pieces.append(entry)
        else:
            part = parts[entry]
            pieces.append(orjson.dumps(part) if isinstance(part, str) else part)
    joined: list[bytes | Render] = []
    for piece in pieces:
        if isinstance(piece, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _fields(job: Job, system: bool) -> list[bytes | Hole]:
    """Constant bytes and hole names of a body, in the order they are sent."""
    model = b'{"model":' + orjson.dumps(job.model)
    tail = b"".join(b"," + orjson.dumps(k) + b":" + orjson.dumps(job.parameters[k]) for k in sorted(job.parameters))
    end: list[bytes | Hole] = [tail + b"}"]
    if job.line_format == "anthropic":
        before: list[bytes | Hole] = [b',"system":', "system"] if system else []
        return [model, *before, b',"messages":[{"role":"user","content":', "user", b"}]", *end]
    if job.url == "/v1/responses":
        before = [b',"instructions":', "system"] if system else []
        return [model, *before, b',"input":', "user", *end]
    first: list[bytes | Hole] = [b'{"role":"system","content":', "system", b"},"] if system else []
    return [model, b',"messages":[', *first, b'{"role":"user","content":', "user", b"}]", *end]
