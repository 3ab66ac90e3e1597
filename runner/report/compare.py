"""Compares two versions of an output by row id, in bounded memory."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from runner.base.differences import windows
from runner.report.rows import AnswerRow, answer_text, parse_row, structured

_SHOWN = 40
"""Characters of a changed value."""
_VALUES = 1_000
"""Different changes of one field that are counted separately."""


@dataclass(frozen=True, slots=True)
class Change:
    """One changed row. An error's text is `error CODE: MESSAGE`."""

    id: str
    before: str
    after: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field's changed rows, and its commonest changes (before, after, rows)."""

    name: str
    rows: int
    values: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions. `changes` are the first ones in the newer version's order."""

    same: int
    changed: int
    added: int
    removed: int
    now_failed: int
    now_answered: int
    compared_fields: int
    changes: tuple[Change, ...]
    fields: tuple[FieldChange, ...]


def compare(before: Path, after: Path, scratch: Path, limit: int) -> Comparison:
    """Compare two output files by row id. Uses `scratch` for an index. Raises OSError."""
    tally = _Tally(limit)
    with closing(sqlite3.connect(scratch / "before.db")) as index, before.open("rb") as old:
        index.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;")
        index.execute("CREATE TABLE row (id TEXT PRIMARY KEY, offset INTEGER, length INTEGER) WITHOUT ROWID")
        index.executemany("INSERT OR REPLACE INTO row VALUES (?, ?, ?)", _places(before))
        (rows,) = index.execute("SELECT count(*) FROM row").fetchone()
        met = 0
        with after.open("rb") as new:
            for line in new:
                row = parse_row(line)
                if row is None:
                    continue
                place = index.execute("SELECT offset, length FROM row WHERE id = ?", (row.id,)).fetchone()
                if place is None:
                    tally.added += 1
                    continue
                met += 1
                old.seek(place[0])
                earlier = parse_row(old.read(place[1]))
                assert earlier is not None
                tally.take(earlier, row)
        tally.removed = rows - met
    return tally.result()


def _places(path: Path) -> Iterator[tuple[str, int, int]]:
    offset = 0
    with path.open("rb") as file:
        for line in file:
            row = parse_row(line)
            if row is not None:
                yield row.id, offset, len(line)
            offset += len(line)


def shown(row: AnswerRow) -> str:
    """Return a row's answer as one text."""
    if row.error is not None:
        return f"error {row.error[0]}: {row.error[1]}"
    return answer_text(row) or ""


@dataclass(slots=True)
class _Tally:
    limit: int
    same: int = 0
    changed: int = 0
    added: int = 0
    removed: int = 0
    now_failed: int = 0
    now_answered: int = 0
    compared: int = 0
    changes: list[Change] = field(default_factory=list)
    fields: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)

    def take(self, before: AnswerRow, after: AnswerRow) -> None:
        if (shown(before), before.parsed) == (shown(after), after.parsed):
            self.same += 1
            return
        self.changed += 1
        self.now_failed += after.error is not None and before.error is None
        self.now_answered += after.error is None and before.error is not None
        names = self._fields(structured(before), structured(after))
        if len(self.changes) < self.limit:
            self.changes.append(Change(after.id, shown(before), shown(after), names))

    def _fields(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> tuple[str, ...]:
        if before is None or after is None:
            return ()
        self.compared += 1
        names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
        for name in names:
            counter = self.fields.setdefault(name, Counter()) if len(self.fields) < _VALUES else Counter()
            change = _pair(_text(before, name), _text(after, name))
            counter[change if len(counter) < _VALUES or change in counter else ("…", "…")] += 1
        return tuple(names)

    def result(self) -> Comparison:
        fields = [
            FieldChange(name, values.total(), tuple((*change, count) for change, count in values.most_common(5)))
            for name, values in self.fields.items()
        ]
        return Comparison(
            self.same,
            self.changed,
            self.added,
            self.removed,
            self.now_failed,
            self.now_answered,
            self.compared,
            tuple(self.changes),
            tuple(sorted(fields, key=lambda one: (-one.rows, one.name))),
        )


def _pair(before: str, after: str) -> tuple[str, str]:
    short = _short(before), _short(after)
    return windows(before, after, _SHOWN) if short[0] == short[1] else short


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _text(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        return "unset"
    value = fields[name]
    return value if isinstance(value, str) else orjson.dumps(value).decode()
