"""Read result lines that strict JSON refuses, so that one odd byte loses no paid answer.

Every repair has a name and is reported.
"""

from __future__ import annotations

import json
import re
from enum import IntFlag

_BOM = "\ufeff"
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""One escape in a JSON text: a surrogate pair, half of one (the group), or any other."""
_INT_DIGITS = 18
"""Any integer of this many digits fits into 64 bits."""


class Repair(IntFlag):
    """What a tolerant read changed."""

    NONE = 0
    BYTE_ORDER_MARK = 1
    SURROGATE = 2
    NUMBER = 4
    CONTROL = 8
    ENCODING = 16


REPAIRS = {
    Repair.BYTE_ORDER_MARK: "a byte order mark",
    Repair.SURROGATE: "half of a surrogate pair, read as U+FFFD",
    Repair.NUMBER: "NaN or Infinity, read as null",
    Repair.CONTROL: "raw control characters",
    Repair.ENCODING: "bytes that are not UTF-8, read as U+FFFD",
}
"""Descriptions of repairs."""


def read_tolerantly(data: bytes) -> tuple[object, Repair]:
    """Return the value of a line, and its repairs. A number beyond a double is no repair.

    Raises ValueError if the line is unreadable.
    """
    bare, repair = _bare_text(data)
    halves = 0

    def escape(match: re.Match[str]) -> str:
        nonlocal halves
        if match[1] is None:
            return match[0]
        halves += 1
        return "\\ufffd"

    bare = _ESCAPE.sub(escape, bare)
    if halves:
        repair |= Repair.SURROGATE
    value, repairs = _parse(bare)
    return value, repair | repairs


def _bare_text(data: bytes) -> tuple[str, Repair]:
    repair = Repair.NONE
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
        repair |= Repair.ENCODING
    bare = text.strip("\0 \t\r\n" + _BOM)
    if _BOM in text[: len(text) - len(text.lstrip("\0 \t\r\n" + _BOM))]:
        repair |= Repair.BYTE_ORDER_MARK
    if "\0" in text.replace(bare, "", 1):
        repair |= Repair.CONTROL
    return bare, repair


def _parse(text: str) -> tuple[object, Repair]:
    repair = Repair.NONE
    odd_numbers = 0

    def constant(_name: str) -> None:
        nonlocal odd_numbers
        odd_numbers += 1

    try:
        try:
            value = json.loads(text, parse_int=_whole, parse_constant=constant)
        except json.JSONDecodeError:
            odd_numbers = 0
            value = json.loads(text, parse_int=_whole, parse_constant=constant, strict=False)
            repair |= Repair.CONTROL
    except RecursionError as error:
        raise ValueError("the line is nested too deep") from error
    return value, repair | Repair.NUMBER if odd_numbers else repair


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= _INT_DIGITS else float(digits)
