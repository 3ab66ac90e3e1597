"""The process that runs DuckDB, locked in, for `runner.planner.tables`: an order as JSON in, framed rows out.

It works in the project's root. A frame with line 0 says why there are no more rows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from runner.planner.rows import frame_record

_ROWS = 1_000
"""Rows that are taken from DuckDB at a time."""


class Refused(Exception):
    """The order can't be carried out; the message says why."""


def main() -> None:
    """Carry out the order on stdin."""
    order = orjson.loads(sys.stdin.buffer.read())
    out = sys.stdout.buffer
    try:
        for number, row in enumerate(_rows(order), 1):
            out.write(frame_record(number, row))
    except Refused as error:
        out.write(frame_record(0, str(error).encode()))
    out.flush()


def _rows(order: dict[str, str]) -> Iterator[bytes]:
    import duckdb  # noqa: PLC0415  the message where it is missing comes from the parent

    try:
        # Without these an unknown function or file type would fetch code from the network.
        closed: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        connection = duckdb.connect(":memory:", config=closed)
        _lock(connection)
        if "parquet" in order:
            cursor = connection.execute("SELECT * FROM read_parquet(?)", [order["parquet"]])
        else:
            statements = connection.extract_statements(order["sql"])
            kinds = [statement.type for statement in statements]
            if kinds != [duckdb.StatementType.SELECT]:
                raise Refused("`input.sql` must be one SELECT")
            cursor = connection.execute(statements[0])
        columns = [column[0] for column in cursor.description or ()]
        if doubled := sorted({name for name in columns if columns.count(name) > 1}):
            raise Refused(f"the query gives the column {doubled[0]} twice; name it with AS")
        number = 0
        while block := cursor.fetchmany(_ROWS):
            for values in block:
                number += 1
                yield _json(columns, values, number)
    except duckdb.Error as error:
        raise Refused(_reason(error)) from error


def _lock(connection: Any) -> None:
    """Let the query read what stands in the project's folders and files that are not hidden, and nothing else."""
    entries = [entry for entry in sorted(Path().iterdir()) if not entry.name.startswith(".")]
    folders = [f"{entry.resolve()}/" for entry in entries if entry.is_dir() and not entry.is_symlink()]
    files = [str(entry.resolve()) for entry in entries if entry.is_file() and not entry.is_symlink()]
    for setting in (
        f"allowed_directories={_sql(folders)}",
        f"allowed_paths={_sql(files)}",
        "threads=1",
        "preserve_insertion_order=true",
        "TimeZone='UTC'",
        "enable_external_access=false",
        "lock_configuration=true",
    ):
        connection.execute(f"SET {setting}")


def _sql(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _json(columns: list[str], values: tuple[Any, ...], number: int) -> bytes:
    row = dict(zip(columns, values, strict=True))
    try:
        for value in values:
            _check(value)
        return orjson.dumps(row, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError) as error:
        bad = next((name for name, value in row.items() if not _writable(value)), columns[0])
        reason = str(error.__cause__ or error)
        raise Refused(f"row {number}, column {bad}: {reason}") from error


def _writable(value: Any) -> bool:
    try:
        _check(value)
        orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return False
    return True


def _check(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no NaN or infinity; use nullif, or cast it to text")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise ValueError("this whole number is beyond 64 bits; cast it to text")
    if isinstance(value, (list, tuple)):
        for item in value:
            _check(item)
    elif isinstance(value, dict):
        for item in value.values():
            _check(item)


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            return orjson.Fragment(str(value))
        case UUID() | timedelta():
            return str(value)
        case tuple():
            return list(value)
        case bytes() | bytearray():
            raise ValueError("binary data is no text; decode or encode it in the query")
    raise ValueError(f"a {type(value).__name__} can't stand in a prompt; cast it to text")


def _reason(error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "disabled by configuration" in first:
        return f"{first.split(' - ')[0]}: a query reads files of the project only, and none that are hidden"
    return first
