"""Write output rows as JSON Lines, CSV or Parquet, optionally compressed.

The same rows give the same bytes everywhere, without clock, host or file name.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import orjson

from runner.errors import StoreError
from runner.jobspec.output_options import Output
from runner.outputs.usage import ROW_FIELDS

_ERROR = ("error_code", "error_message")
_USAGE = ("input_tokens", "output_tokens", "cached_tokens")
_COST = "cost"
BOM = b"\xef\xbb\xbf"
"""Start of a CSV file with cells made safe for spreadsheets; no other output has it."""
QUOTE = "'"
"""Prefix of a cell that would run as a formula, or that begins with this character."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Characters that may begin a formula, including full-width signs."""
_TYPES = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What rows hold: `fields` after the id, parsed answers of `schema`, and replicates.

    `written`: flat files have columns for tokens written to a cache.
    """

    fields: tuple[str, ...]
    schema: Mapping[str, Any] | None = None
    replicated: bool = False
    written: bool = False


class Writer(Protocol):
    """Takes output rows, in order."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one row."""
        ...


@contextmanager
def writing(file: BinaryIO, output: Output, shape: Shape, digest: Any) -> Iterator[Writer]:
    """Open a writer of output rows; `digest` hashes its bytes. Raises StoreError."""
    hashed = Hashing(file, digest)
    with packed(hashed, output.path) as stream:
        if output.kind == "jsonl":
            yield _JsonLines(stream, shape.fields)
            return
        columns = flat_columns(shape)
        if output.kind == "csv":
            yield _Csv(stream, columns, safe=output.cells == "safe")
            return
        with tempfile.TemporaryDirectory(prefix="batchspec-") as folder:
            rows = Path(folder) / "rows.jsonl"
            with rows.open("wb") as flat_rows:
                yield _Flat(flat_rows, columns)
            _to_parquet(rows, Path(folder) / "rows.parquet", columns, stream)


class Hashing(io.RawIOBase):
    """A file that also hashes every byte."""

    def __init__(self, file: IO[bytes], digest: Any = None) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256() if digest is None else digest

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write and hash the data."""
        self._digest.update(data)
        self._file.write(data)
        return len(data)


@contextmanager
def packed(file: io.RawIOBase, path: str) -> Iterator[IO[bytes]]:
    """Open a stream that compresses for a path in .gz or .zst."""
    if path.endswith(".gz"):
        # No name and no time, so that the bytes depend only on the rows.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as stream:
            yield stream  # type: ignore[misc]  # typeshed: no IO[bytes]
    elif path.endswith(".zst"):
        import zstandard  # noqa: PLC0415  only for .zst

        with zstandard.ZstdCompressor(level=9).stream_writer(file, closefd=False) as stream:  # type: ignore[arg-type]  # the same
            yield stream
    else:
        yield file  # type: ignore[misc]  # a raw file is enough


def flat_columns(shape: Shape) -> dict[str, str]:
    """Return a flat output's columns with DuckDB's types, one for each parsed field."""
    columns = {"id": "VARCHAR"}
    if shape.replicated:
        columns["replicate"] = "BIGINT"
    properties = (shape.schema or {}).get("properties")
    for field in shape.fields:
        if field == "usage":
            columns |= dict.fromkeys(ROW_FIELDS if shape.written else _USAGE, "BIGINT")
        elif field == "error":
            columns |= dict.fromkeys(_ERROR, "VARCHAR")
        elif field == _COST:
            columns[_COST] = "DOUBLE"
        elif field == "parsed" and isinstance(properties, dict) and properties:
            columns |= {f"parsed.{name}": _type(rules) for name, rules in properties.items()}
        elif field.startswith("parsed."):
            rules = properties.get(field.removeprefix("parsed.")) if isinstance(properties, dict) else None
            columns[field] = _type(rules)
        else:
            columns[field] = "VARCHAR"
    return columns


def _type(rules: Any) -> str:
    kind = rules.get("type") if isinstance(rules, dict) else None
    return _TYPES.get(kind, "VARCHAR") if isinstance(kind, str) else "VARCHAR"


def chosen(row: Mapping[str, Any], include: Sequence[str]) -> dict[str, Any]:
    """Return a row's id and the spec's fields, in order."""
    kept = {name: row[name] for name in ("id", "replicate") if name in row}
    for field in include:
        outer, _, inner = field.partition(".")
        if not inner:
            kept[outer] = row.get(outer)
        else:
            value = row.get(outer)
            below = kept.setdefault(outer, {})
            if isinstance(below, dict):
                below[inner] = value.get(inner) if isinstance(value, dict) else None
    return kept


class _JsonLines:
    def __init__(self, stream: IO[bytes], include: Sequence[str]) -> None:
        self._stream = stream
        self._include = include

    def add(self, row: Mapping[str, Any]) -> None:
        self._stream.write(orjson.dumps(chosen(row, self._include)) + b"\n")


def flat(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row as column values; lists and mappings are JSON."""
    found: dict[str, Any] = {}
    for name, kind in columns.items():
        value = _value(row, name)
        if isinstance(value, (dict, list)) or (kind == "VARCHAR" and value is not None and not isinstance(value, str)):
            value = orjson.dumps(value).decode()
        found[name] = value
    return found


def _value(row: Mapping[str, Any], name: str) -> Any:
    if name in ROW_FIELDS:
        return (row.get("usage") or {}).get(name)
    if name in _ERROR:
        return (row.get("error") or {}).get(name.removeprefix("error_"))
    outer, _, inner = name.partition(".")
    value = row.get(outer)
    return value if not inner else value.get(inner) if isinstance(value, dict) else None


class _Csv:
    _END = "\r\n"
    """csv quotes the characters of its line end. Readers may end a line at a bare CR, so CR must be among them."""

    def __init__(self, stream: IO[bytes], columns: dict[str, str], *, safe: bool) -> None:
        self._stream = stream
        self._columns = columns
        self._cell = _safe_cell if safe else _cell
        self._writer = csv.writer(self, lineterminator=self._END)
        if safe:
            stream.write(BOM)
        self._writer.writerow(columns)

    def add(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow(self._cell(name, value) for name, value in flat(row, self._columns).items())

    def write(self, line: str) -> None:
        """Receive one line from csv's writer and end it with LF."""
        self._stream.write(line.removesuffix(self._END).encode() + b"\n")


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == _COST and value is not None:
        return f"{Decimal(repr(value)):f}"  # fractions of a cent, and no exponents, which spreadsheets misread
    return "" if value is None else value


def _safe_cell(name: str, value: Any) -> Any:
    """Return a cell that no spreadsheet runs as a formula (OWASP, "CSV Injection")."""
    if isinstance(value, str) and value.startswith((*FORMULA, QUOTE)):
        return QUOTE + value
    return _cell(name, value)


class _Flat:
    def __init__(self, file: BinaryIO, columns: dict[str, str]) -> None:
        self._file = file
        self._columns = columns

    def add(self, row: Mapping[str, Any]) -> None:
        self._file.write(orjson.dumps(flat(row, self._columns)) + b"\n")


def _to_parquet(rows: Path, made: Path, columns: Mapping[str, str], stream: IO[bytes]) -> None:
    if importlib.util.find_spec("duckdb") is None:
        raise StoreError("writing parquet needs DuckDB", hint="pip install 'batchspec[duckdb]'", code="BS209")
    import duckdb  # noqa: PLC0415  an optional dependency

    try:
        connection = duckdb.connect(":memory:", config={"threads": 1})
        read = connection.read_json(str(rows), columns=dict(columns), format="newline_delimited")
        read.write_parquet(str(made), compression="zstd")
        connection.close()
    except duckdb.Error as error:
        raise StoreError(f"parquet cannot be written: {error}", code="BS209") from error
    with made.open("rb") as file:
        while data := file.read(1 << 20):
            stream.write(data)
