"""Corrupted copies of result files. The real files do not change."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Mapping
from io import BufferedWriter
from pathlib import Path
from typing import BinaryIO

import orjson

from runner.service.db.private_files import create
from runner.service.faults.faults import share

_Line = tuple[int, int] | bytes
"""A line of the real file as (offset, size), or the text of an invented line."""


def corrupted_copy(path: Path, faults: Mapping[str, str], key: str) -> Path:
    """Return a copy of a result file with a job's faults, or the file itself.

    The same file, faults and key give the same copy. Raises OSError.
    """
    ways = [(name, way) for name, way in _WAYS.items() if name in faults]
    if not ways:
        return path
    copy = path.with_suffix(".spoiled.jsonl")
    if not copy.exists():
        with path.open("rb") as file:
            lines: list[_Line] = list(_lines(file))
            for name, way in ways:
                # The same lines at the same seed on every machine; nothing here is secret.
                lines = way(lines, file, faults[name], random.Random(f"{key}:{path.name}:{name}"))  # noqa: S311
            _write(copy, file, lines)
    return copy


def truncated_copy(path: Path) -> Path:
    """Return a copy that ends within a line. Raises OSError."""
    copy = path.with_suffix(".cut.jsonl")
    if not copy.exists():
        with path.open("rb") as file:
            lines = _lines(file)
            middle = len(lines) // 2
            _write(copy, file, [*lines[:middle], *(_half(file, line) for line in lines[middle : middle + 1])])
    return copy


def _lines(file: BinaryIO) -> list[tuple[int, int]]:
    found, offset = [], 0
    for line in file:
        found.append((offset, len(line)))
        offset += len(line)
    return found


def _read(file: BinaryIO, line: _Line) -> bytes:
    if isinstance(line, bytes):
        return line
    file.seek(line[0])
    return file.read(line[1])


def _half(file: BinaryIO, line: _Line) -> bytes:
    text = _read(file, line)
    return text[: len(text) // 2]


def _write(copy: Path, file: BinaryIO, lines: Iterable[_Line]) -> None:
    partial = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}")
    with BufferedWriter(create(partial)) as target:
        target.writelines(_read(file, line) for line in lines)
    partial.replace(copy)


def _chosen(lines: list[_Line], detail: str, numbers: random.Random) -> set[int]:
    if not lines:
        return set()
    return set(numbers.sample(range(len(lines)), max(round(share(detail) * len(lines)), 1)))


_Way = Callable[[list[_Line], BinaryIO, str, random.Random], list[_Line]]


def _without_some(lines: list[_Line], _file: BinaryIO, detail: str, numbers: random.Random) -> list[_Line]:
    gone = _chosen(lines, detail, numbers)
    return [line for number, line in enumerate(lines) if number not in gone]


def _some_twice(lines: list[_Line], _file: BinaryIO, detail: str, numbers: random.Random) -> list[_Line]:
    twice = _chosen(lines, detail, numbers)
    return [line for number, line in enumerate(lines) for _ in range(2 if number in twice else 1)]


def _with_unknown(lines: list[_Line], file: BinaryIO, detail: str, numbers: random.Random) -> list[_Line]:
    copied = _chosen(lines, detail, numbers)
    more: list[_Line] = []
    for number, line in enumerate(lines):
        more.append(line)
        if number in copied:
            unknown = {**orjson.loads(_read(file, line)), "custom_id": f"unknown-{number}"}
            more.append(orjson.dumps(unknown, option=orjson.OPT_APPEND_NEWLINE))
    return more


def _some_garbled(lines: list[_Line], file: BinaryIO, detail: str, numbers: random.Random) -> list[_Line]:
    broken = _chosen(lines, detail, numbers)
    return [_half(file, line) + b"\n" if number in broken else line for number, line in enumerate(lines)]


def _in_other_order(lines: list[_Line], _file: BinaryIO, _detail: str, numbers: random.Random) -> list[_Line]:
    return numbers.sample(lines, len(lines))


# In this order: lines are read before they are garbled, and all of them are there before they are shuffled.
_WAYS: Mapping[str, _Way] = {
    "missing-lines": _without_some,
    "double-lines": _some_twice,
    "unknown-lines": _with_unknown,
    "garbled-lines": _some_garbled,
    "shuffle-lines": _in_other_order,
}
