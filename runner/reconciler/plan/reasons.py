"""What changed between two pins; decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from runner.base.humanize import counted, number
from runner.state.lockfile_lines import PinsLine

DIGEST = "sha256:"
"""Prefix of a parameter value that is recorded as a digest."""
_LONGEST = 84
"""Characters of a value to show."""
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class RowChanges:
    """Rows new, changed and gone, by id."""

    added: int
    changed: int
    removed: int


def why_new(old: PinsLine | None, new: PinsLine, rows: RowChanges | None = None) -> str:
    """Return what new requests are submitted for."""
    if old is None:
        return "first run"
    if old.requests == new.requests:
        return "they have no answer yet"
    reasons = []
    if old.model != new.model:
        reasons.append(f"model changed: {old.model} to {new.model}")
    if (old.format, old.endpoint) != (new.format, new.endpoint):
        reasons.append(f"endpoint changed: {_line(old)} to {_line(new)}")
    reasons += _templates(old.templates, new.templates)
    parts = list(_parts(old.parts, new.parts)) if old.parts and new.parts else []
    reasons += parts
    # A schema file is submitted as a parameter; report its change once.
    about_schema = any(part.startswith("schema") for part in parts)
    reasons += [
        text
        for text in _values("", old.parameters, new.parameters)
        if not (about_schema and text.startswith(("response_format", "text.format", "output_config.format")))
    ]
    if old.input_digest != new.input_digest:
        reasons.append(rows_changed(old, new, None if reasons else rows))
    return "; ".join(reasons) or "the spec's prompt, vars, salt or asks changed"


def _templates(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    changed = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    if changed:
        yield f"template changed: {', '.join(changed)}"
    gone, come = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    if gone and come:
        yield f"template changed: {', '.join(gone)} to {', '.join(come)}"
    elif gone or come:
        yield f"template {'no longer used' if gone else 'added'}: {', '.join(gone or come)}"


def _parts(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    names = sorted(name for name in old.keys() | new.keys() if old.get(name, _ABSENT) != new.get(name, _ABSENT))
    names_of_vars = [name.removeprefix("vars.") for name in names if name.startswith("vars.")]
    for name in names:
        if name.startswith("vars."):
            continue
        shown = name.removeprefix("prompt.") + " prompt" if name in {"prompt.system", "prompt.user"} else name
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before is _ABSENT or after is _ABSENT:
            yield f"{shown} {'added' if before is _ABSENT else 'removed'}"
        elif isinstance(before, str) or isinstance(after, str):
            yield f"{shown} changed"
        else:
            yield f"{shown} changed: {_shown(before)} to {_shown(after)}"
    if names_of_vars:
        yield f"vars changed: {', '.join(names_of_vars)}"


def _values(name: str, old: object, new: object) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _values(f"{name}.{key}" if name else key, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        hidden = any(isinstance(value, str) and value.startswith(DIGEST) for value in (old, new))
        if hidden and old is not _ABSENT and new is not _ABSENT:
            yield f"{name} changed"
        else:
            yield f"{name} changed: {_shown(old)} to {_shown(new)}"


def _shown(value: object) -> str:
    if value is _ABSENT:
        return "unset"
    if isinstance(value, str) and value.startswith(DIGEST):
        return "another value"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST else "set"


def rows_changed(old: PinsLine, new: PinsLine, rows: RowChanges | None) -> str:
    """Return how rows changed: by id if compared, else by number."""
    if rows is not None:
        changes = [(rows.added, "added to"), (rows.changed, "changed in"), (rows.removed, "removed from")]
        parts = [f"{counted(count, 'row')} {what}" for count, what in changes if count]
        return f"{', '.join(parts)} {new.input}" if parts else f"{new.input} changed, and no row's request"
    if old.input != new.input:
        return f"input changed: {old.input} to {new.input}"
    if new.rows != old.rows:
        # Without a comparison only the number of rows is known.
        return f"rows differ in {new.input}: {number(new.rows)} now, {number(old.rows)} before"
    return f"rows changed in {new.input}"


def _line(pins: PinsLine) -> str:
    return pins.endpoint or pins.format
