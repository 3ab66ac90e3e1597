"""A result line at a glance: what indexing needs of it, without its text. Results come by the million.

A line of one of the three usual shapes is decoded into the few fields below; all else in it is passed over unmade.
Whatever is not exactly of these types goes the long way. Both say the same of every line, and a test holds them to it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from runner.executor.answers import answer_of, read_line

Glance = tuple[str, str | None, str | None, int, int, int]
"""Of one line: its custom_id, its error's code, the model, and tokens: input, output, cached."""

_Count = Annotated[int, Meta(ge=0, le=1 << 62)]


class _Object(Struct, gc=False):
    """Any object; nothing of it is wanted."""


class _Details(Struct, gc=False):
    cached_tokens: _Count | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: _Count | None = None
    input_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    output_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: _Count | None = None
    cached_tokens: _Count | None = None


class _Body(Struct, gc=False):
    """A chat completion, a response or a message: the list of its kind says that it is one."""

    model: str | None = None
    usage: _Usage | None = None
    choices: list[_Object] | None = None
    output: list[_Object] | None = None
    content: list[_Object] | None = None


class _Response(_Body, gc=False):
    """The guide's: the body itself. OpenAI's: around the body."""

    status_code: Annotated[int, Meta(ge=0, lt=400)] | None = None
    body: _Body | None = None


class _Result(Struct, gc=False):
    """Anthropic's."""

    type: Literal["succeeded"]
    message: _Body


class _Line(Struct, gc=False):
    custom_id: str
    response: _Response | None = None
    result: _Result | None = None
    error: None = None


_decode = msgspec.json.Decoder(_Line).decode


def glance(data: bytes) -> Glance | None:
    """What indexing needs of a result line; None where `read_line` gives None."""
    try:
        line = _decode(data)
        if not data.isascii():
            data.decode()  # what is passed over is not looked at, and may be no UTF-8
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _the_long_way(data)
    response = line.response
    if line.result is not None:
        body: _Body | None = line.result.message
    elif response is not None and response.status_code is not None:
        body = response.body
    else:
        body = response
    if body is None or (body.choices is None and body.output is None and body.content is None):
        return _the_long_way(data)
    usage = body.usage
    if usage is None:
        return line.custom_id, None, body.model, 0, 0, 0
    given = usage.input_tokens if usage.prompt_tokens is None else usage.prompt_tokens
    made = usage.output_tokens if usage.completion_tokens is None else usage.completion_tokens
    return line.custom_id, None, body.model, given or 0, made or 0, _cached(usage)


def _cached(usage: _Usage) -> int:
    for details in (usage.prompt_tokens_details, usage.input_tokens_details):
        if details is not None and details.cached_tokens is not None:
            return details.cached_tokens
    found = usage.cached_tokens if usage.cache_read_input_tokens is None else usage.cache_read_input_tokens
    return found or 0


def _the_long_way(data: bytes) -> Glance | None:
    line = read_line(data)
    if line is None:
        return None
    answer = answer_of(line)
    return (
        line.custom_id,
        None if answer.error is None else answer.error[0],
        answer.model,
        answer.input_tokens or 0,
        answer.output_tokens or 0,
        answer.cached_tokens or 0,
    )
