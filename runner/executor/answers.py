"""Result lines: any of the three shapes services send, as one Answer.

A line is hostile until it is checked: everything is looked at by hand and bounded, nothing is believed. Values are
named tuples here: they are made by the million, in a third of the time that a frozen dataclass takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

INVALID = "invalid"
"""The code of an answer that does not fit the job's schema. It was billed, so it is asked again only where `retry.on`
names it."""
_KINDS = ("choices", "output", "content")
"""The list that a response has by its kind: a chat completion, a response or a message."""


class Answer(NamedTuple):
    """What a request came back with. `text` is None on a refusal or an error; exactly one of them says why.

    An answer that does not fit the job's schema has both its text and an error.

    Tokens are the service's own count, None where it sent none.
    """

    text: str | None
    finish_reason: str | None
    refusal: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    model: str | None
    error: tuple[str, str] | None


class ResultLine(NamedTuple):
    """A line's custom_id, and either the provider's response object or an error (code, message)."""

    custom_id: str
    response: dict[str, Any] | None
    error: tuple[str, str] | None


def read_line(data: bytes) -> ResultLine | None:
    """A result line, in the guide's, OpenAI's or Anthropic's shape; None where it is none of them, or cut short."""
    try:
        line = orjson.loads(data)
    except orjson.JSONDecodeError:
        line = _with_infinities(data)
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        return None
    custom_id = line["custom_id"]
    if isinstance(line.get("result"), dict):
        return _anthropic(custom_id, line["result"])
    error = line.get("error")
    response = line.get("response")
    if isinstance(response, dict) and (error is None or (_says_nothing(error) and _is_answer(response))):
        if isinstance(response.get("status_code"), int):
            return _openai(custom_id, response)
        return ResultLine(custom_id, response, None)
    return ResultLine(custom_id, None, _error(error)) if error is not None else None


def _says_nothing(error: object) -> bool:
    """Whether an error is an empty value, or an object of such: some services send one beside each answer."""
    return not (any(error.values()) if isinstance(error, dict) else error)


def _is_answer(response: dict[str, Any]) -> bool:
    body = response.get("body") if isinstance(response.get("status_code"), int) else response
    return isinstance(body, dict) and any(isinstance(body.get(name), list) for name in _KINDS)


def _with_infinities(data: bytes) -> object:
    """A line that orjson refuses for a number beyond a double only, which may stand in a field that nobody reads."""
    try:
        line = json.loads(data.decode(), parse_int=_whole, parse_constant=_no_constant)
        json.dumps(line, ensure_ascii=False).encode()  # halves of surrogate pairs are no text
    except (ValueError, RecursionError):
        return None
    return line


def _whole(digits: str) -> float:
    return int(digits) if len(digits) < 19 else float(digits)


def _no_constant(text: str) -> float:
    raise ValueError(f"JSON has no {text}")


def answer_of(line: ResultLine) -> Answer:
    """The answer in a line."""
    if line.error is not None or line.response is None:
        return failed(line.error or ("malformed_result", "the line has neither response nor error"))
    response = line.response
    if isinstance(response.get("choices"), list):
        text, finish, refusal = _chat(response["choices"])
    elif isinstance(response.get("output"), list):
        text, finish, refusal = _responses(response)
    elif isinstance(response.get("content"), list):
        text, finish, refusal = _message(response)
    else:
        return failed(("malformed_result", "the response is not one of the known shapes"))
    usage = response.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        text,
        finish,
        refusal,
        _count(usage, "prompt_tokens", "input_tokens"),
        _count(usage, "completion_tokens", "output_tokens"),
        _cached(usage),
        _text(response.get("model")),
        None,
    )


def answer_of_row(row: Mapping[str, Any]) -> Answer:
    """The answer that a row of an output has kept; what the output leaves out is None."""
    usage, error = row.get("usage"), row.get("error")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        _text(row.get("text")),
        _text(row.get("finish_reason")),
        _text(row.get("refusal")),
        _count(usage, "input_tokens"),
        _count(usage, "output_tokens"),
        _count(usage, "cached_tokens"),
        _text(row.get("model")),
        _error(error) if isinstance(error, dict) else None,
    )


def failed(error: tuple[str, str]) -> Answer:
    """The answer that is an error."""
    return Answer(None, None, None, None, None, None, None, error)


def _openai(custom_id: str, response: dict[str, Any]) -> ResultLine:
    body = response.get("body")
    status = response["status_code"]
    if status < 400:
        return ResultLine(custom_id, body, None) if isinstance(body, dict) else ResultLine(custom_id, {}, None)
    inner = body.get("error") if isinstance(body, dict) else None
    code, message = _error(inner)
    return ResultLine(custom_id, None, (code if code != "unknown_error" else f"http_{status}", message))


def _anthropic(custom_id: str, result: dict[str, Any]) -> ResultLine | None:
    kind = result.get("type")
    if kind == "succeeded" and isinstance(result.get("message"), dict):
        return ResultLine(custom_id, result["message"], None)
    if kind == "errored":
        error = result.get("error")
        inner = error.get("error") if isinstance(error, dict) and isinstance(error.get("error"), dict) else error
        return ResultLine(custom_id, None, _error(inner))
    if isinstance(kind, str) and kind != "succeeded":
        return ResultLine(custom_id, None, (kind[:100], f"the request was {kind[:100]}"))
    return None


def _error(value: object) -> tuple[str, str]:
    if isinstance(value, dict):
        code = _text(value.get("code")) or _text(value.get("type")) or "unknown_error"
        return code[:100], (_text(value.get("message")) or code)[:2000]
    return "unknown_error", (_text(value) or "no reason was given")[:2000]


def _chat(choices: list[Any]) -> tuple[str | None, str | None, str | None]:
    choice = choices[0] if choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        return None, _text(choice.get("finish_reason")), None
    return _text(message.get("content")), _text(choice.get("finish_reason")), _text(message.get("refusal"))


def _responses(response: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    texts, refusals = [], []
    for item in response["output"]:
        if not isinstance(item, dict) or item.get("type") != "message" or not isinstance(item.get("content"), list):
            continue
        for part in item["content"]:
            if isinstance(part, dict) and part.get("type") == "output_text":
                texts.append(_text(part.get("text")) or "")
            elif isinstance(part, dict) and part.get("type") == "refusal":
                refusals.append(_text(part.get("refusal")) or "")
    details = response.get("incomplete_details")
    finish = _text(details.get("reason")) if isinstance(details, dict) else None
    return "".join(texts) if texts else None, finish or _text(response.get("status")), "".join(refusals) or None


def _message(response: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    blocks = [b for b in response["content"] if isinstance(b, dict) and b.get("type") == "text"]
    finish = _text(response.get("stop_reason"))
    text = "".join(_text(b.get("text")) or "" for b in blocks) if blocks else None
    return (None, finish, text or "refused") if finish == "refusal" else (text, finish, None)


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _cached(usage: dict[str, Any]) -> int | None:
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = usage.get(name)
        if isinstance(details, dict) and (found := _count(details, "cached_tokens")) is not None:
            return found
    return _count(usage, "cache_read_input_tokens", "cached_tokens")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
