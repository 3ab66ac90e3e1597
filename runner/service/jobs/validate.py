"""Validates an input file before any of its requests is sent.

Source: the vendor's guide and API description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from runner.service.jobs.lines import Format, LineError, Provider, key_of, read_lines, with_defaults

MAX_ERRORS = 100
ANTHROPIC_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_TEXT_PARTS = frozenset(
    {"text", "input_text", "output_text", "refusal", "summary_text", "reasoning_text", "thinking", "redacted_thinking"}
)
_TOOL_PARTS = frozenset({"tool_use", "tool_result"})
_OTHER_ITEMS = frozenset({"function_call", "function_call_output", "reasoning", "item_reference"})


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one job's lines. `defaults` are its model and parameters."""

    provider: Provider
    endpoint: str | None
    defaults: dict[str, Any]
    max_requests: int
    max_line_bytes: int

    @property
    def format(self) -> Format:
        """Return the requests' format."""
        return Format.of(self.provider, self.endpoint)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The number of requests and their model, or at most `MAX_ERRORS` errors."""

    total: int
    model: str | None
    errors: tuple[LineError, ...]


class _Seen:
    def __init__(self) -> None:
        self.total = 0
        self.ids: set[bytes] = set()
        self.model: str | None = None


def validate(path: Path, rules: Rules, stopped: Callable[[], bool] = lambda: False) -> Verdict | None:
    """Check a whole file in one pass, with bounded memory.

    Return None if `stopped` returned True meanwhile. Raises OSError.
    """
    seen = _Seen()
    errors: list[LineError] = []
    with path.open("rb") as file:
        for number, line in read_lines(file, rules.max_line_bytes):
            if number % 256 == 0 and stopped():
                return None
            seen.total += 1
            if seen.total > rules.max_requests:
                errors.append(
                    LineError("too_many_requests", f"A file may hold at most {rules.max_requests} requests.", number)
                )
                break
            errors.extend(LineError(code, text, number) for code, text in _line_errors(line, rules, seen))
            if len(errors) >= MAX_ERRORS:
                break
    if not seen.total:
        errors.append(LineError("empty_file", "The input file holds no requests."))
    return Verdict(seen.total, seen.model, tuple(errors[:MAX_ERRORS]))


_Found = Iterator[tuple[str, str]]
"""Errors of one line as (code, message)."""


def _line_errors(raw: bytes | None, rules: Rules, seen: _Seen) -> _Found:
    if raw is None:
        yield "line_too_long", f"A line may hold at most {rules.max_line_bytes} bytes."
        return
    try:
        line = orjson.loads(raw)
    except ValueError as error:
        yield "invalid_json_line", _why_no_json(raw, error)
        return
    if not isinstance(line, dict):
        yield "invalid_json_line", "A line must be a JSON object."
        return
    yield from _id_errors(line.get("custom_id"), rules.provider, seen)
    if rules.provider == "anthropic":
        body = line.get("params")
        if not isinstance(body, dict):
            yield "missing_required_field", _missing("params", line, "body")
            return
    else:
        yield from _address_errors(line, rules.endpoint)
        body = line.get("body")
        if not isinstance(body, dict):
            yield "missing_required_field", _missing("body", line, "params")
            return
    yield from _body_errors(with_defaults(body, rules.defaults, rules.format), rules.format, seen)


def _why_no_json(raw: bytes, error: ValueError) -> str:
    if not raw.strip():
        return "The line is empty."
    if raw.startswith(b"\xef\xbb\xbf"):
        return "The file starts with a byte order mark; JSON Lines has none."
    return f"The line is not JSON: {error}"


def _missing(field: str, line: dict[str, Any], other: str) -> str:
    if field in line:
        return f"'{field}' must be an object."
    hint = f" It has '{other}': is it a line for another provider?" if other in line else ""
    return f"Missing required field '{field}'.{hint}"


def _id_errors(custom_id: Any, provider: Provider, seen: _Seen) -> _Found:
    if custom_id is None:
        yield "missing_required_field", "Missing required field 'custom_id'."
        return
    if not isinstance(custom_id, str) or not custom_id:
        yield "invalid_custom_id", "'custom_id' must be a string that is not empty."
        return
    if provider == "anthropic" and not ANTHROPIC_ID.fullmatch(custom_id):
        yield "invalid_custom_id", f"'custom_id' must match {ANTHROPIC_ID.pattern}, got {_short(custom_id)}."
    key = key_of(custom_id)
    if key in seen.ids:
        yield "duplicate_custom_id", f"The custom_id {_short(custom_id)} is in an earlier line too."
    seen.ids.add(key)


def _address_errors(line: dict[str, Any], endpoint: str | None) -> _Found:
    if line.get("method") != "POST":
        what = "'method' must be POST." if "method" in line else "Missing required field 'method'."
        yield ("invalid_method" if "method" in line else "missing_required_field"), what
    if "url" not in line:
        yield "missing_required_field", "Missing required field 'url'."
    elif line["url"] != endpoint:
        yield "invalid_url", f"'url' must be the job's endpoint {endpoint}, got {_short(line['url'])}."


def _body_errors(body: dict[str, Any], wire: Format, seen: _Seen) -> _Found:
    yield from _model_errors(body.get("model"), seen)
    if body.get("stream"):
        yield "unsupported_parameter", "'stream' can't be used in a batch."
    match wire:
        case Format.CHAT:
            yield from _messages_errors(body.get("messages"))
        case Format.MESSAGES:
            yield from _max_tokens_errors(body)
            yield from _messages_errors(body.get("messages"))
            yield from _content_errors(body.get("system"), "system")
        case Format.RESPONSES:
            yield from _input_errors(body)


def _model_errors(model: Any, seen: _Seen) -> _Found:
    if model is None:
        yield "missing_required_field", "Missing required field 'model'."
    elif not isinstance(model, str) or not model:
        yield "invalid_model", "'model' must be a string that is not empty."
    elif seen.model is None:
        seen.model = model
    elif model != seen.model:
        message = f"All requests of a file must use one model: {_short(seen.model)} before, {_short(model)} here."
        yield "mismatched_model", message


def _max_tokens_errors(body: dict[str, Any]) -> _Found:
    limit = body.get("max_tokens")
    if limit is None:
        yield "missing_required_field", "Missing required field 'max_tokens'."
    elif not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        yield "invalid_max_tokens", "'max_tokens' must be a whole number of at least 1."


def _messages_errors(messages: Any) -> _Found:
    if messages is None:
        yield "missing_required_field", "Missing required field 'messages'."
        return
    if not isinstance(messages, list) or not messages:
        yield "invalid_messages", "'messages' must be a list with at least one message."
        return
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            yield "invalid_messages", f"{where} must be an object with a 'role'."
            continue
        yield from _content_errors(message.get("content"), f"{where}.content")


def _input_errors(body: dict[str, Any]) -> _Found:
    given = body.get("input")
    if given is None:
        yield "missing_required_field", "Missing required field 'input'."
    elif not isinstance(given, str | list) or not given:
        yield "invalid_input", "'input' must be a text or a list of items, and not empty."
    elif isinstance(given, list):
        for index, item in enumerate(given):
            where = f"input[{index}]"
            if not isinstance(item, dict):
                yield "invalid_input", f"{where} must be an object."
            elif item.get("type", "message") == "message":
                yield from _content_errors(item.get("content"), f"{where}.content")
            elif item["type"] not in _OTHER_ITEMS:
                yield "unsupported_content", f"{where} is of type {_short(item['type'])}; only text is supported."


def _content_errors(content: Any, where: str) -> _Found:
    """Allow only text: a string, null, or a list of parts with text or a tool call."""
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        yield "invalid_content", f"{where} must be a text or a list of parts."
        return
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            yield "invalid_content", f"{where}[{index}] must be an object with a 'type'."
        elif kind not in _TEXT_PARTS | _TOOL_PARTS:
            yield "unsupported_content", f"{where}[{index}] is of type {_short(kind)}; only text is supported."
        elif kind in {"text", "input_text", "output_text"} and not isinstance(part.get("text"), str):
            yield "invalid_content", f"{where}[{index}].text must be a text."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
