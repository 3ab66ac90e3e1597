"""Escape characters that a reader can't see or that a terminal obeys.

These are control characters (C0, DEL, C1), direction marks, zero-width and format characters, Unicode tags, variation
selectors, letters without a glyph, and half surrogates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LAYOUT = frozenset("\n\t")
_SEEN = frozenset("\u3000")
"""Not printable to Python, but as wide as a letter: East Asian texts use it as their space."""
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159"  # letters and marks that draw nothing
    "\u180b\u180c\u180d\u180f"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))  # variation selectors
)
"""Printable to Python, but invisible in most fonts."""
_TRACES = frozenset({"exception", "stack"})
"""Fields of a log entry with several lines."""


def visible(text: str) -> str:
    r"""Escape as `\u202e` or `\U000e0041`; newlines and tabs stay."""
    return _escaped(text, _escape, _LAYOUT)


def visible_line(text: str) -> str:
    """Escape also newlines and tabs."""
    return _escaped(text, _escape, frozenset())


def visible_json(text: str) -> str:
    """Escape JSON without a change of meaning."""
    return _escaped(text, _json_escape, _LAYOUT)


def visible_fields(_logger: object, _name: str, entry: Any) -> Any:
    """Escape a log entry's texts. A structlog processor."""
    return {visible_line(key): visible(value) if key in _TRACES else _deep(value) for key, value in entry.items()}


def _deep(value: Any) -> Any:
    match value:
        case str():
            return visible_line(value)
        case dict():
            return {_deep(key): _deep(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_deep(one) for one in value]
        case None | bool() | int() | float():
            return value
        case _:
            return visible_line(str(value))


def is_seen(character: str) -> bool:
    """Return whether a reader sees a character."""
    return (character.isprintable() or character in _SEEN) and character not in _UNSEEN


def _escaped(text: str, escape: Callable[[str], str], kept: frozenset[str]) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in kept or is_seen(c) else escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
