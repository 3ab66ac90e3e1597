"""Reads the rows of an output, checked by hand."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One row. `id` is its JSON text; `error` is (code, message); unknown tokens are None.

    `has_text` and `has_refusal` are whether the output has these fields.
    """

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
    has_text: bool = True
    has_refusal: bool = True
    calls: Any = None


READABLE = frozenset({"jsonl", "csv"})
"""Kinds of output whose rows can be read back."""


def read_rows(path: Path, kind: str = "jsonl", name: str = "") -> Iterator[AnswerRow]:
    """Yield an output's rows in order; skip lines that are not rows.

    `name` selects the decompression of a copy. Raises OSError if it can't be read.
    """
    for fields in _fields(path, kind, name or path.name):
        row = _row(fields)
        if row is not None:
            yield row


def plain(path: Path, kind: str, name: str, target: Path) -> Path:
    """Return an output as plain JSON lines, copied to `target` if necessary. Raises OSError."""
    if kind == "jsonl" and not name.endswith((".gz", ".zst")):
        return path
    with target.open("wb") as file:
        for fields in _fields(path, kind, name):
            file.write(orjson.dumps(fields) + b"\n")
    return target


def _fields(path: Path, kind: str, name: str) -> Iterator[Any]:
    with _unpacked(path, name) as stream:
        if kind == "csv":
            # A cell may hold any answer whole; the module's own limit is 128 kB.
            csv.field_size_limit(1 << 30)
            with io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
                yield from (_of_columns(row) for row in csv.DictReader(text, restkey="", restval=""))
            return
        for line in stream:
            with contextlib.suppress(orjson.JSONDecodeError):
                yield orjson.loads(line)


@contextlib.contextmanager
def _unpacked(path: Path, name: str) -> Iterator[IO[bytes]]:
    if name.endswith(".gz"):
        with gzip.open(path, "rb") as packed:
            yield cast("IO[bytes]", packed)
    elif name.endswith(".zst"):
        import zstandard  # noqa: PLC0415  only for .zst

        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            yield io.BufferedReader(stream)
    else:
        with path.open("rb") as file:
            yield file


def _of_columns(columns: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in columns.items() if isinstance(value, str) and value}
    parsed = {name.removeprefix("parsed."): value for name, value in given.items() if name.startswith("parsed.")}
    counts = {name: int(given[name]) for name in _COUNTS if str(given.get(name, "")).isdigit()}
    error = {"code": given.get("error_code"), "message": given.get("error_message")} if "error_code" in given else None
    present: dict[str, Any] = {name: None for name in ("text", "refusal") if name in columns}
    return {**present, **given, "parsed": parsed or given.get("parsed"), "usage": counts or None, "error": error}


_COUNTS = ("input_tokens", "output_tokens", "cached_tokens")


def parse_row(line: bytes) -> AnswerRow | None:
    """Return a JSON line's row, or None."""
    try:
        return _row(orjson.loads(line))
    except orjson.JSONDecodeError:
        return None


def _row(row: Any) -> AnswerRow | None:
    if not isinstance(row, dict) or "id" not in row:
        return None
    usage = row.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    error = row.get("error")
    replicate = f" #{row['replicate']}" if row.get("replicate") is not None else ""
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
        has_text="text" in row,
        has_refusal="refusal" in row,
        calls=row.get("tool_calls") or None,
    )


NOT_IN_OUTPUT = "(not in the output)"


def answer_text(row: AnswerRow) -> str | None:
    """Return a row's text, else its parsed value, else its refusal, else None."""
    if row.text is not None:
        return row.text
    if row.parsed is not None:
        return row.parsed if isinstance(row.parsed, str) else orjson.dumps(row.parsed).decode()
    if row.refusal is not None:
        return f"refused: {row.refusal}"
    if row.calls is not None:
        return row.calls if isinstance(row.calls, str) else orjson.dumps(row.calls).decode()
    return None if row.has_text else NOT_IN_OUTPUT


def is_refused(row: AnswerRow) -> bool:
    """Return whether the model refused."""
    if row.refusal is not None:
        return True
    if row.calls is not None or row.finish_reason in _CALLED:
        return False
    return row.has_text and row.has_refusal and row.text is None and row.parsed is None


_CALLED = frozenset({"tool_calls", "tool_use", "function_call"})
"""Finish reasons of tool calls, which an output may leave out."""


def structured(row: AnswerRow) -> dict[str, Any] | None:
    """Return a row's parsed answer, or its text if a JSON object."""
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
