"""Find an error's code and message, wherever a service or gateway puts them.

Seen in public: `error.error`, `code` and `message`, `detail` as text or a list of `{loc, msg}`, `errors`, plain text,
JSON inside a text, and all of these under status 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

MAX_CODE = 100
MAX_MESSAGE = 2_000
"""Longest code or message to keep, in characters."""
_MAX_DEPTH = 6
_MAX_ITEMS = 5
_NESTED = ("error", "errors", "detail", "details", "fault")
_WORDS = ("message", "msg", "error_description", "title", "reason")
_STATUSES = ("statusCode", "status_code", "status")
_BAD_REQUEST, _SERVER_ERROR = 400, 500
_TRANSIENT = frozenset({408, 429})


class Words(NamedTuple):
    """An error's code and message; empty if there is none."""

    code: str = ""
    message: str = ""


def is_transient(status: int | None) -> bool:
    """Return whether the request may succeed later. 0 and None mean no HTTP answer."""
    return status is None or status <= 0 or status in _TRANSIENT or status >= _SERVER_ERROR


def find_words(*places: object) -> Words:
    """Return the first code and message, best place first. Both are bounded."""
    code = message = ""
    for place in places:
        found = _look(place, 0)
        code, message = code or found.code, message or found.message
    return Words(code[:MAX_CODE], message[:MAX_MESSAGE])


def _look(value: object, depth: int) -> Words:
    if depth > _MAX_DEPTH:
        return Words()
    if isinstance(value, str):
        return _look_in_text(value, depth)
    if isinstance(value, list):
        found = [_look(item, depth + 1) for item in value[:_MAX_ITEMS]]
        code = next((one.code for one in found if one.code), "")
        return Words(code, "; ".join(one.message for one in found if one.message))
    return _look_in_object(value, depth) if isinstance(value, dict) else Words()


def _look_in_text(text: str, depth: int) -> Words:
    stripped = text.strip()
    if stripped.startswith("{"):
        try:
            found = _look(orjson.loads(stripped), depth + 1)
        except orjson.JSONDecodeError:
            found = Words()
        if found.code or found.message:
            return found
    return Words("", stripped)


def _look_in_object(value: Mapping[str, Any], depth: int) -> Words:
    code = message = ""
    for name in _NESTED:
        inner = value.get(name)
        if isinstance(inner, (dict, list)):
            found = _look(inner, depth + 1)
            code, message = code or found.code, message or found.message
    own = next((text for name in (*_WORDS, *_NESTED) if (text := _text(value.get(name)))), "")
    where = value.get("loc")
    if own and isinstance(where, list):
        own = f"{'.'.join(str(part) for part in where[:_MAX_ITEMS])}: {own}"
    if not message and own:
        inner_words = _look_in_text(own, depth)
        code, message = code or inner_words.code, inner_words.message
    return Words(code or _code_of(value), message)


def _code_of(value: Mapping[str, Any]) -> str:
    """Return an object's `code`, else its `type`. A bare number is an HTTP status."""
    code, kind = value.get("code"), _text(value.get("type"))
    if kind in {"error", "object"} or "loc" in value:
        kind = ""
    number = _status(code)
    if number is None:
        return _text(code) or kind or _status_code(value)
    return kind if kind and not is_transient(number) else f"http_{number}"


def _status_code(value: Mapping[str, Any]) -> str:
    found = next((number for name in _STATUSES if (number := _status(value.get(name))) is not None), None)
    return "" if found is None else f"http_{found}"


def _status(value: object) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and _BAD_REQUEST <= value < 600:
        return value
    return None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
