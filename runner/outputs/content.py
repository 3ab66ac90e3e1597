"""Read a response: text, a refusal, tool calls, and its own failure. Reasoning is not text.

One walk over strings and typed parts serves chat completions, responses and messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

KINDS = ("choices", "output", "content")
"""The field that identifies a chat completion, a response or a message."""
_MAX_DEPTH = 8
_TEXT_TYPES = frozenset({None, "text", "output_text", "message"})
_CALL_TYPES = frozenset({"tool_use", "function_call", "custom_tool_call", "function", "custom", "tool_call"})
_FAILED = frozenset({"failed", "cancelled"})
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "incomplete"})
_UNFINISHED = frozenset({"incomplete", "in_progress"})


class Call(NamedTuple):
    """A tool call. `arguments` are parsed, or text."""

    name: str
    arguments: Any


class Content(NamedTuple):
    """What a response holds. `failed`: it reports a failure, which is `failure`."""

    text: str | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    calls: tuple[Call, ...] = ()
    failed: bool = False
    failure: object = None

    @property
    def empty(self) -> bool:
        """Whether there is no text but blanks, no refusal and no tool call."""
        return not (self.refusal or self.calls or (self.text and not self.text.isspace()))


def is_cut(finish_reason: str | None) -> bool:
    """Return whether a response ended at the token limit."""
    return finish_reason is not None and finish_reason.lower() in _CUT


def has_kind(body: object) -> bool:
    """Return whether a body is a response of a known kind."""
    return isinstance(body, dict) and any(isinstance(body.get(name), (list, str)) for name in KINDS)


def read_content(body: Mapping[str, Any]) -> Content:
    """Return the content of a response; empty for an unknown kind."""
    found = Content()
    for name, read in zip(KINDS, (_chat, _responses, _message), strict=True):
        value = body.get(name)
        if isinstance(value, list) or (isinstance(value, str) and name != "choices"):
            found = read(body, value)
            if value:
                break
    if _text(body.get("status")) in _FAILED:
        found = found._replace(failed=True)
    if found.text is None and found.empty and (text := _text(body.get("output_text"))):
        found = found._replace(text=text)
    return found


def calls_of_row(value: object) -> Iterator[Call]:
    """Yield the calls in an output row's `tool_calls`."""
    for call in value if isinstance(value, list) else ():
        if isinstance(call, dict) and isinstance(call.get("name"), str):
            yield Call(call["name"], call.get("arguments"))


@dataclass(slots=True)
class _Parts:
    texts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def walk(self, value: object, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            return
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, list):
            for part in value:
                self.walk(part, depth + 1)
        elif isinstance(value, dict):
            self._part(value, depth)

    def _part(self, part: Mapping[str, Any], depth: int) -> None:
        kind = part.get("type")
        if kind == "refusal":
            self.refusals.append(_text(part.get("refusal")) or "")
        elif isinstance(kind, str) and kind in _CALL_TYPES:
            self.calls += _call(part)
        elif kind is None or (isinstance(kind, str) and kind in _TEXT_TYPES):
            text = part.get("text")
            self.walk(text.get("value") if isinstance(text, dict) else text, depth + 1)
            self.walk(part.get("content"), depth + 1)

    @property
    def text(self) -> str | None:
        return "".join(self.texts) if self.texts else None

    @property
    def refusal(self) -> str | None:
        return "".join(self.refusals) or None

    @property
    def filled(self) -> bool:
        """Whether there is a refusal, or text that is not blank."""
        return bool(self.refusal) or not (self.text or " ").isspace()


def _call(part: Mapping[str, Any]) -> Iterator[Call]:
    inner = next((found for name in ("function", "custom") if isinstance(found := part.get(name), dict)), part)
    name = _text(inner.get("name"))
    if name:
        arguments = next((inner[one] for one in ("arguments", "input", "parameters") if one in inner), None)
        yield Call(name, _arguments(arguments))


def _arguments(value: Any) -> Any:
    if isinstance(value, str):
        try:
            parsed = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        return parsed if _is_storable(parsed) else value
    return value if _is_storable(value) else None


def _is_storable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _chat(_body: Mapping[str, Any], choices: Any) -> Content:
    found = [_choice(choice) for choice in choices if isinstance(choice, dict)]
    if not found or found[0].failed:
        return found[0] if found else Content()
    return next((one for one in found if not one.empty), found[0])


def _choice(choice: Mapping[str, Any]) -> Content:
    message = choice.get("message")
    parts = _Parts()
    refusal = None
    if isinstance(message, dict):
        parts.walk(message.get("content"))
        refusal = _text(message.get("refusal"))
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                parts.calls += _call(call)
        if isinstance(legacy := message.get("function_call"), dict):
            parts.calls += _call(legacy)
    else:
        parts.walk(choice.get("text"))
    finish = _text(choice.get("finish_reason"))
    failure = choice.get("error") or None
    failed = failure is not None or finish == "error"
    return Content(parts.text, finish, refusal or parts.refusal, tuple(parts.calls), failed, failure)


def _responses(response: Mapping[str, Any], output: Any) -> Content:
    """Read the last complete message. Commentary counts only without one."""
    calls: list[Call] = []
    messages: list[tuple[int, _Parts]] = []
    for item in [output] if isinstance(output, str) else output:
        parts = _Parts()
        parts.walk(item)
        calls += parts.calls
        if parts.filled or parts.texts:
            messages.append((_rank(item, parts), parts))
    chosen = _Parts()
    best = -1
    for rank, parts in messages:
        if rank >= best:
            best, chosen = rank, parts
    details = response.get("incomplete_details")
    finish = _text(details.get("reason")) if isinstance(details, dict) else None
    return Content(chosen.text, finish or _text(response.get("status")), chosen.refusal, tuple(calls))


def _rank(item: Any, parts: _Parts) -> int:
    if not parts.filled:
        return 0
    if not isinstance(item, dict):
        return 4
    commentary = item.get("phase") == "commentary"
    unfinished = isinstance(item.get("status"), str) and item["status"] in _UNFINISHED
    return 1 + 2 * (not commentary) + (not unfinished)


def _message(response: Mapping[str, Any], content: Any) -> Content:
    parts = _Parts()
    parts.walk(content)
    finish = _text(response.get("stop_reason"))
    if finish == "refusal":
        return Content(None, finish, parts.text or parts.refusal or "refused", tuple(parts.calls))
    return Content(parts.text, finish, parts.refusal, tuple(parts.calls))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
