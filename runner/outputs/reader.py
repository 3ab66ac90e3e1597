"""Read answers back from batchspec's output files (JSON Lines, CSV or Parquet, optionally compressed).

Only rows with their request, batch and all fields of the spec count. Call it only for a file with the digest that the
lockfile records.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import orjson

from runner.base.keys import parse_key
from runner.base.retryable import ErrorKind
from runner.errors import StoreError
from runner.jobspec.loader import JobSpec
from runner.jobspec.output_options import Output, OutputFormat
from runner.jobspec.tools import TOOL_CALLS, forced_function, output_fields
from runner.outputs.formats import BOM, QUOTE
from runner.outputs.result_lines import INVALID, answer_of_row
from runner.outputs.usage import ROW_FIELDS
from runner.state.results import ENTRY, entries_of
from runner.state.sorted_file import SortedFile

OUTPUT_FILE = 2
"""The `file` number of an answer in an output file, not in a raw result file."""
_BUFFERED_ROWS = 50_000
_IDENTITY = frozenset({"request", "batch", "error"})
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens")
_COLUMNS = {"usage": _COUNTS, "error": ("error_code", "error_message"), "parsed": ("text",)}
"""Flat columns of a field that has none of its own name."""


@dataclass(frozen=True, slots=True)
class OutputAnswers:
    """Answers of one batch in output files. `entries` point to rows in `lines`.

    lines: the output, or JSON lines made from `outputs`.
    kinds: the kinds of `codes`.
    answered: distinct keys that were billed, even with an invalid or empty answer.
    """

    entries: SortedFile
    codes: tuple[str, ...]
    kinds: tuple[int, ...]
    outputs: tuple[Path, ...]
    lines: Path
    answered: int


@dataclass(frozen=True, slots=True)
class _Needed:
    """Fields that a row needs to count as an answer.

    `parsed`: names within the parsed value. A row with text needs none: it is parsed again.
    """

    fields: frozenset[str]
    parsed: frozenset[str]

    @classmethod
    def of(cls, spec: JobSpec) -> _Needed:
        include = output_fields(spec.job)
        fields = {name.partition(".")[0] for name in include}
        priced = {"usage", "model"} if "cost" in fields else set()
        within = {name.removeprefix("parsed.") for name in include if name.startswith("parsed.")}
        if "parsed" in include:  # some of the names are not enough: the schema may require more
            required = (spec.schema or {}).get("required")
            within.update(required if isinstance(required, list) else ())
        if forced_function(spec.job.parameters) is not None:
            fields.add(TOOL_CALLS)  # the parsed value comes from there, not from the text
        return cls(_IDENTITY.union(fields, priced) - {"row", "cost"}, frozenset(within))

    def in_row(self, row: Mapping[str, Any]) -> bool:
        lacking = self.fields - row.keys()
        parsed = row.get("parsed")
        if row.get("text"):
            return lacking <= {"parsed", TOOL_CALLS}
        if "text" in row:
            return lacking <= ({"parsed"} if parsed is None else {"parsed", TOOL_CALLS})
        return not lacking and (not isinstance(parsed, dict) or parsed.keys() >= self.parsed)


def read_outputs(paths: Sequence[Path], spec: JobSpec, folder: Path) -> dict[str, OutputAnswers]:
    """Return answers in output files by batch id, without rows that lack fields of `spec`.

    An answer beats an error, then the first file wins. The bytes decide a file's format: the spec may have changed.
    `folder` is this call's scratch folder. Raises StoreError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    needed = _Needed.of(spec)
    made = [(path, _as_lines(path, needed.fields, folder / f"{number}.jsonl")) for number, path in enumerate(paths)]
    found = {path: lines for path, lines in made if lines is not None}
    if not found:
        return {}
    lines = next(iter(found.values())) if len(found) == 1 else _joined(found.values(), folder / "all.jsonl")
    return _indexed(tuple(found), lines, needed, folder)


def _joined(files: Iterable[Path], joined: Path) -> Path:
    with joined.open("wb") as target:
        for path in files:
            with path.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
            target.write(b"\n")
    return joined


def _as_lines(path: Path, needed: frozenset[str], made: Path) -> Path | None:
    """Return an output as JSON lines, converted to `made` if necessary; None if it lacks columns."""
    kind = _kind(path)
    if kind == "jsonl" and path.suffix not in {".gz", ".zst"}:
        return path
    columns = {column for name in needed for column in _COLUMNS.get(name, (name,))}
    try:
        with made.open("wb") as file:
            if kind == "jsonl":
                with _unpacked(path) as stream:
                    shutil.copyfileobj(stream, file, 1 << 20)
                return made
            for row in _csv_rows(path) if kind == "csv" else _parquet_rows(path):
                if not row.keys() >= columns:
                    return None
                whole = _unflat(row)
                file.write(orjson.dumps({name: whole[name] for name in needed}) + b"\n")
    except _broken(path) as error:
        raise StoreError(f"{path} can't be read: {error}") from error
    return made


def _kind(path: Path) -> OutputFormat:
    with _unpacked(path) as stream:
        start = stream.read(4)
    if start == b"PAR1":
        return "parquet"
    return "jsonl" if start.startswith(b"{") else "csv"


def output_rows(path: Path, output: Output) -> Iterator[Mapping[str, Any] | None]:
    """Yield each row with its file's columns, None for an invalid line. Raises StoreError."""
    try:
        if output.kind == "jsonl":
            with _unpacked(path) as stream:
                yield from map(_row, _buffered(stream))
        else:
            yield from _csv_rows(path) if output.kind == "csv" else _parquet_rows(path)
    except _broken(path) as error:
        raise StoreError(f"{path} can't be read: {str(error) or 'it ends too early'}") from error


def takes_nothing_for_an_answer(path: Path, output: Output) -> bool:
    """Return whether a row has neither answer nor error, as earlier versions wrote."""
    return any(row is not None and _is_nothing(row) for row in output_rows(path, output))


def _is_nothing(row: Mapping[str, Any]) -> bool:
    held = (value for name, value in row.items() if name.partition(".")[0] in _HOLDING)
    return "text" in row and not (row["text"] or "").strip() and all(value is None for value in held)


_HOLDING = frozenset({"refusal", "parsed", "tool_calls", "error", "error_code"})


def _broken(path: Path) -> tuple[type[Exception], ...]:
    usual = (OSError, EOFError, ValueError, csv.Error, zlib.error)
    if path.suffix != ".zst":
        return usual
    import zstandard  # noqa: PLC0415  only for .zst

    return (*usual, zstandard.ZstdError)


def _row(line: bytes) -> Mapping[str, Any] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _buffered(stream: IO[bytes]) -> IO[bytes]:
    """Return a stream with fast lines: those of decompressing streams are slow."""
    return stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", stream))


def _unpacked(path: Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    if path.suffix == ".zst":
        import zstandard  # noqa: PLC0415  only for .zst

        return cast("IO[bytes]", zstandard.open(path, "rb"))
    return path.open("rb")


def _csv_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    with _unpacked(path) as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
        first = text.readline()
        safe = first.startswith(BOM.decode())
        for row in csv.DictReader(chain([first.removeprefix(BOM.decode())], text), restkey=""):
            yield {name: (_plain_cell(value) if safe else value) or None for name, value in row.items()}


def _plain_cell(value: str | list[str] | None) -> str | list[str] | None:
    return value[1:] if isinstance(value, str) and value.startswith(QUOTE) else value


def _parquet_rows(path: Path) -> Iterator[Mapping[str, Any]]:
    if importlib.util.find_spec("duckdb") is None:
        return
    import duckdb  # noqa: PLC0415  an optional dependency

    try:
        with duckdb.connect(":memory:", config={"threads": 1}) as connection:
            found = connection.execute("select * from read_parquet(?)", [str(path)])
            names = [column[0] for column in found.description or ()]
            while rows := found.fetchmany(1_000):
                yield from (dict(zip(names, row, strict=True)) for row in rows)
    except duckdb.Error as error:
        raise StoreError(f"{path} can't be read: {error}") from error


def _unflat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat row as a JSON row. An empty cell may have been null."""
    code, text = row["error_code"], row.get("text")
    counts = {name: int(row[name]) for name in ROW_FIELDS if row.get(name) is not None}
    usage = {**dict.fromkeys(_COUNTS), **counts}
    shaped = any(value is not None for name, value in row.items() if name.partition(".")[0] == "parsed")
    return {
        "text": text,
        "parsed": json.loads(text) if shaped and text and code is None else None,
        "finish_reason": row.get("finish_reason"),
        "refusal": row.get("refusal"),
        TOOL_CALLS: json.loads(calls) if (calls := row.get(TOOL_CALLS)) else None,
        "usage": None if code not in {None, INVALID} and not counts else usage,
        "model": row.get("model"),
        "error": None if code is None else {"code": code, "message": row["error_message"]},
        "request": row["request"],
        "batch": row["batch"],
    }


def _indexed(paths: tuple[Path, ...], lines: Path, needed: _Needed, folder: Path) -> dict[str, OutputAnswers]:
    codes: dict[str, dict[tuple[str, ErrorKind], int]] = {}
    waiting: dict[str, list[tuple[bytes, int, int, int, int]]] = {}
    names: dict[str, Path] = {}

    def flush() -> None:
        for batch, records in waiting.items():
            with names.setdefault(batch, folder / f"batch-{len(names)}").open("ab") as file:
                file.write(np.array(records, ENTRY).tobytes())
        waiting.clear()

    for leftover in folder.glob("batch-*"):
        leftover.unlink()
    for count, (key, batch, error, offset, length) in enumerate(_records(lines, needed), 1):
        table = codes.setdefault(batch, {})
        number = table.setdefault(error, len(table) + 1) if error is not None else 0
        waiting.setdefault(batch, []).append((key, offset, length, number, OUTPUT_FILE))
        if count % _BUFFERED_ROWS == 0:
            flush()
    flush()
    return {batch: _answers(file, tuple(codes[batch]), paths, lines) for batch, file in names.items()}


_Error = tuple[str, ErrorKind]


def _records(lines: Path, needed: _Needed) -> Iterator[tuple[bytes, str, _Error | None, int, int]]:
    """Yield (key, batch id, error's code and kind, offset, length) of answered and failed rows."""
    for offset, line in _lines(lines):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        key = parse_key(row.get("request")) if isinstance(row, dict) else None
        if key is None or not isinstance(row.get("batch"), str) or not needed.in_row(row):
            continue
        answer = answer_of_row(row)
        error = None if answer.error is None else (answer.error[0], answer.kind)
        yield key, row["batch"], error, offset, len(line)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    offset = 0
    with path.open("rb") as file:
        for line in file:
            text = line.rstrip(b"\r\n")
            if text:
                yield offset, text
            offset += len(line)


def _answers(file: Path, codes: tuple[_Error, ...], outputs: tuple[Path, ...], lines: Path) -> OutputAnswers:
    entries = entries_of(np.fromfile(file, ENTRY))
    paid = (n for n, (code, kind) in enumerate(codes, 1) if code == INVALID or kind == ErrorKind.BILLED)
    counted = np.isin(entries["code"], [0, *paid])
    np.save(file.with_suffix(".npy"), entries)
    names, kinds = tuple(code for code, _ in codes), tuple(int(kind) for _, kind in codes)
    return OutputAnswers(
        SortedFile.open(file.with_suffix(".npy"), ENTRY), names, kinds, outputs, lines, int(counted.sum())
    )
