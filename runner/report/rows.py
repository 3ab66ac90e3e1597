"""Rows of a written output, read one after another and checked by hand; a row is data, never trusted to be whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One row of an output. `id` is its JSON text; `error` is (code, message); tokens are None where unknown."""

    id: str
    text: str | None
    parsed: Any
    finish_reason: str | None
    refusal: str | None
    error: tuple[str, str] | None
    input_tokens: int | None
    output_tokens: int | None
    model: str | None
    request: str
    batch: str | None


def read_rows(path: Path) -> Iterator[AnswerRow]:
    """The rows of a JSON Lines output, in its order; lines that are not rows are passed over. Raises OSError."""
    with path.open("rb") as file:
        for line in file:
            row = parse_row(line)
            if row is not None:
                yield row


def parse_row(line: bytes) -> AnswerRow | None:
    """One line of an output; None where it is not one."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict) or "id" not in row:
        return None
    usage = row.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    error = row.get("error")
    replicate = f" #{row['replicate']}" if isinstance(row.get("replicate"), int) else ""
    return AnswerRow(
        id=orjson.dumps(row["id"]).decode() + replicate,
        text=_text(row.get("text")),
        parsed=row.get("parsed"),
        finish_reason=_text(row.get("finish_reason")),
        refusal=_text(row.get("refusal")),
        error=(str(error.get("code")), str(error.get("message"))) if isinstance(error, dict) else None,
        input_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
        model=_text(row.get("model")),
        request=_text(row.get("request")) or "",
        batch=_text(row.get("batch")),
    )


def structured(row: AnswerRow) -> dict[str, Any] | None:
    """A row's answer as fields: what was parsed, else its text where that is a JSON object."""
    if isinstance(row.parsed, dict):
        return row.parsed
    if row.text is None or not row.text.lstrip().startswith("{"):
        return None
    try:
        value = orjson.loads(row.text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
