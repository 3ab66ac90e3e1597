"""The fast path of `result_lines`, for millions of results: read only what indexing needs.

Decodes lines of a usual shape with plain text into the fields below. Others take the full parse. A test checks that
both give the same result.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from runner.base.retryable import ErrorKind
from runner.outputs.content import is_cut
from runner.outputs.result_lines import answer_of, read_line
from runner.outputs.tolerant_json import Repair
from runner.outputs.usage import MAX_TOKENS

ScannedLine = tuple[str, str | None, ErrorKind, str | None, int, int, int, int, int, int]
"""custom_id, the error's code and kind, the model, tokens (input, output, cached, written to a cache, and of those for
an hour), and marks.
"""


class Marks(IntFlag):
    """What is counted about a line. Higher bits are repairs (`repaired`)."""

    CUT = 1
    """The answer ended at the token limit."""
    ODD_USAGE = 2
    """The usage is not plausible."""


_REPAIR_BITS = 2


def repaired(repair: Repair) -> int:
    """Return the marks of a repair."""
    return int(repair) << _REPAIR_BITS


_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class _Details(Struct, gc=False):
    cached_tokens: _Count | None = None
    cache_write_tokens: Literal[0] | None = None


class _Written(Struct, gc=False):
    ephemeral_5m_input_tokens: Literal[0] | None = None
    ephemeral_1h_input_tokens: Literal[0] | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: _Count | None = None
    input_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    output_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: _Count | None = None
    cached_tokens: _Count | None = None
    cache_creation_input_tokens: Literal[0] | None = None
    cache_creation: _Written | None = None


class _Part(Struct, gc=False):
    type: str | None = None
    text: str | None = None


class _Item(Struct, gc=False):
    type: str | None = None
    content: list[_Part] | None = None


class _Message(Struct, gc=False):
    content: str | None = None


class _Choice(Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None
    error: None = None


class _Body(Struct, gc=False):
    """A chat completion, a response or a message, distinguished by its list."""

    model: str | None = None
    usage: _Usage | None = None
    status: Literal["completed"] | None = None
    incomplete_details: None = None
    stop_reason: str | None = None
    choices: list[_Choice] | None = None
    output: list[_Item] | None = None
    content: list[_Part] | None = None


class _Response(_Body, gc=False):
    status_code: Annotated[int, Meta(ge=0, lt=400)] | None = None
    body: _Body | None = None


class _Result(Struct, gc=False):
    type: Literal["succeeded"]
    message: _Body


class _Line(Struct, gc=False):
    custom_id: str
    response: _Response | None = None
    result: _Result | None = None
    error: None = None


_decode = msgspec.json.Decoder(_Line).decode
_CUT, _ODD_USAGE = int(Marks.CUT), int(Marks.ODD_USAGE)
_NO_ERROR = ErrorKind.REFUSED
_PLAIN_ENDS = frozenset({None, "stop", "end_turn"})
_FULL_PARSE_REASONS = frozenset({"error", "refusal"})
"""Finish reasons with which a text is no answer, or a refusal."""
_TEXT = frozenset({"text", "output_text"})


def scan_line(data: bytes) -> ScannedLine | None:
    """Return what indexing needs of a line; None like `read_line`."""
    try:
        line = _decode(data)
        if not data.isascii():
            data.decode()  # skipped fields are not decoded and may be invalid UTF-8
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _full_parse(data)
    response = line.response
    if line.result is not None:
        body: _Body | None = line.result.message
    elif response is not None and response.status_code is not None:
        body = response.body
    else:
        body = response
    if body is None:
        return _full_parse(data)
    if body.choices:
        choice = body.choices[0]
        text = None if choice.message is None else choice.message.content
        finish = choice.finish_reason
    elif body.output:
        text, finish = _text_of_items(body.output), None
    elif body.content:
        text, finish = _text_of_parts(body.content), body.stop_reason
    else:
        return _full_parse(data)
    if not text or text.isspace():
        return _full_parse(data)
    marks = 0
    if finish not in _PLAIN_ENDS:
        if finish in _FULL_PARSE_REASONS:
            return _full_parse(data)
        marks = _CUT if is_cut(finish) else 0
    usage = body.usage
    if usage is None:
        return line.custom_id, None, _NO_ERROR, body.model, 0, 0, 0, 0, 0, marks
    given, made, details = usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details
    if given is None:
        given = usage.input_tokens or 0
    if made is None:
        made = usage.output_tokens or 0
    if details is None:
        details = usage.input_tokens_details
    elif usage.input_tokens_details is not None:
        return _full_parse(data)
    cached = None if details is None else details.cached_tokens
    if cached is None:
        cached = (usage.cached_tokens if usage.cache_read_input_tokens is None else usage.cache_read_input_tokens) or 0
    elif cached > given:
        marks |= _ODD_USAGE
    if usage.total_tokens is not None and usage.total_tokens != given + made:
        marks |= _ODD_USAGE
    return line.custom_id, None, _NO_ERROR, body.model, given, made, cached, 0, 0, marks


def _text_of_parts(parts: list[_Part]) -> str | None:
    for part in parts:
        if part.text and part.type in _TEXT and not part.text.isspace():
            return part.text
    return None


def _text_of_items(items: list[_Item]) -> str | None:
    for item in items:
        if item.type == "message" and item.content and (text := _text_of_parts(item.content)) is not None:
            return text
    return None


def _full_parse(data: bytes) -> ScannedLine | None:
    line = read_line(data)
    if line is None:
        return None
    answer = answer_of(line)
    marks = repaired(line.repair) | int(Marks.CUT) * answer.is_cut | int(Marks.ODD_USAGE) * answer.odd_usage
    return (
        line.custom_id,
        None if answer.error is None else answer.error[0],
        answer.kind,
        answer.model,
        answer.input_tokens or 0,
        answer.output_tokens or 0,
        answer.cached_tokens or 0,
        answer.written_tokens or 0,
        answer.written_hour_tokens or 0,
        marks,
    )
