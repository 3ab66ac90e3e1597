"""`duckdb_client`'s confined process: a JSON request in, framed rows out.

It runs in the project's root. A frame with line 0 carries an error and ends the output; line -1
is the error of a missing file.
"""

from __future__ import annotations

import glob
import math
import os
import re
import stat
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from runner.base import lfs
from runner.planner.confine import confine
from runner.planner.input.parse import RECORD_BYTES, frame_record

_FETCH_ROWS = 1_000
"""Rows fetched from DuckDB at a time."""
_MEMORY_BYTES = 4 << 30
"""Memory limit of this process; DuckDB's own buffers spill to disk at a quarter of it."""
_SPILL_LIMIT = "20GB"
"""Limit on what DuckDB spills to disk."""
_MAX_ENTRIES = 1_000_000
"""Files and folders of a project that are visited."""
_HARMLESS = frozenset({".DS_Store", ".gitkeep", ".keep", ".gitignore", ".gitattributes"})
"""Common hidden files without content of interest."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  a zone is added as text
_NANOSECONDS = {"TIMESTAMP_NS": "", "TIMESTAMPTZ_NS": "+00:00"}
"""Timestamp types with nanoseconds, and the suffix of their text; the session's time zone is UTC."""
_QUOTED = re.compile(r"""['"]([^'"\n]+)['"]""")
_GLOB = re.compile(r"'([^'\n*?\[]*[*?\[][^'\n/]*)'")


class QueryRefused(Exception):
    """The query is not allowed or failed."""


class NoFile(QueryRefused):
    """A file is missing, or a pattern matches none."""


def main() -> None:
    """Run the request on stdin."""
    request = orjson.loads(sys.stdin.buffer.read())
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # keep library output out of the rows
    confine(memory=_MEMORY_BYTES, seconds=request["seconds"] + 1)
    try:
        for number, row in enumerate(_rows(request), 1):
            out.write(frame_record(number, row))
    except QueryRefused as error:
        out.write(frame_record(-1 if isinstance(error, NoFile) else 0, str(error).encode()))
    except MemoryError:
        out.write(frame_record(0, f"the query takes more than {_MEMORY_BYTES >> 30} GB of memory".encode()))
    out.flush()


def _rows(request: dict[str, Any]) -> Iterator[bytes]:
    import duckdb  # noqa: PLC0415  the parent reports a missing package

    try:
        # Otherwise an unknown function or file type would download code.
        no_extensions: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        spill = {"temp_directory": request["spill"], "memory_limit": f"{_MEMORY_BYTES >> 32}GB"}
        spill["max_temp_directory_size"] = _SPILL_LIMIT
        connection = duckdb.connect(":memory:", config={**no_extensions, **spill})
        _apply_limits(
            connection,
            *(
                ([], [str(Path(request["parquet"]).resolve())])
                if "parquet" in request
                else _readable_paths(request["sql"])
            ),
        )
        if "parquet" in request:
            text = "SELECT * FROM read_parquet(?)"
            parameters: dict[str, Any] | list[Any] = [request["parquet"]]
        else:
            statements = connection.extract_statements(request["sql"])
            kinds = [statement.type for statement in statements]
            if kinds != [duckdb.StatementType.SELECT]:
                raise QueryRefused("`input.sql` must be one SELECT")
            _refuse_pointers(request["sql"])
            text = statements[0].query
            parameters = _parameters(statements[0].named_parameters, request["parameters"])
        cursor = connection.execute(text, parameters)
        columns = [column[0] for column in cursor.description or ()]
        if repeated := sorted({name for name in columns if columns.count(name) > 1}):
            raise QueryRefused(f"the query gives the column {repeated[0]} twice; name it with AS")
        nanos = _nanoseconds([(name, str(kind)) for name, kind, *_ in cursor.description or ()])
        if nanos:
            cursor = connection.execute(_with_nanoseconds(text, [columns[at] for at in nanos]), parameters)
        number = 0
        while block := cursor.fetchmany(_FETCH_ROWS):
            for values in block:
                number += 1
                row = _json(columns, _timestamps(values, nanos) if nanos else values, number)
                if len(row) > RECORD_BYTES:
                    raise QueryRefused(f"row {number} is longer than {RECORD_BYTES} bytes")
                yield row
    except duckdb.Error as error:
        reason = _reason(error)
        missing = reason.startswith("there is no file ") or "No files found that match the pattern" in reason
        raise (NoFile if missing else QueryRefused)(reason) from error


def _parameters(named: set[str], known: dict[str, dict[str, Any]]) -> dict[str, Any] | list[Any]:
    """Return a query's parameters for DuckDB. Raises QueryRefused for an unknown one."""
    if unknown := sorted(named - known.keys()):
        shown = ", ".join(f"${name}" for name in sorted(known)) or "none"
        raise QueryRefused(f"there is no var for ${unknown[0]}; the vars of this job are: {shown}")
    return {name: _bound_value(known[name]) for name in named} if named else []


def _bound_value(entry: dict[str, Any]) -> Any:
    kind = entry.get("as")
    if kind is None:
        return entry["value"]
    moment = datetime.fromisoformat(entry["value"])
    return moment.date() if kind == "date" else moment


def _refuse_pointers(sql: str) -> None:
    """DuckDB would read Git LFS pointers as CSV files."""
    for name in _QUOTED.findall(sql):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            continue  # not readable anyway
        for path in map(Path, sorted(glob.glob(name, recursive=True))):  # noqa: PTH207  Path.glob refuses some patterns
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if lfs.is_pointer(file.read(len(lfs.MARK) + 1)):
                        raise QueryRefused(lfs.message(path.as_posix()))


def _nanoseconds(columns: list[tuple[str, str]]) -> dict[int, str]:
    """Return the nanosecond columns by index, with their text's suffix.

    Python's values hold microseconds only. Raises QueryRefused for nested nanoseconds.
    """
    found = {}
    for number, (name, kind) in enumerate(columns):
        if kind in _NANOSECONDS:
            found[number] = _NANOSECONDS[kind]
        elif "_NS" in kind:
            raise QueryRefused(f"column {name} is {kind}, which would lose its nanoseconds; cast it to VARCHAR")
    return found


def _with_nanoseconds(query: str, columns: list[str]) -> str:
    names = ['"' + name.replace('"', '""') + '"' for name in columns]
    replaced = ", ".join(f"epoch_ns({name}) AS {name}" for name in names)
    return f"SELECT * REPLACE ({replaced}) FROM (\n{query.rstrip().rstrip(';')}\n)"  # noqa: S608  one SELECT, confined


def _timestamps(values: tuple[Any, ...], nanos: dict[int, str]) -> tuple[Any, ...]:
    row = list(values)
    for at, zone in nanos.items():
        if row[at] is not None:
            micros, rest = divmod(row[at], 1_000)
            text = (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds" if rest else "auto")
            row[at] = f"{text}{rest:03d}{zone}" if rest else text + zone
    return tuple(row)


def _readable_paths(sql: str) -> tuple[list[str], list[str]]:
    """Return the folders and files a query may read: no hidden files, devices and pipes.

    A folder with such an entry is allowed file by file. DuckDB also checks patterns, but lists what a symlink leads to;
    so patterns are allowed only directly in such a folder.
    """
    found = _ReadablePaths()
    found.add_folder(".", top=True)
    patterns = [Path(text) for text in _GLOB.findall(sql)]
    allowed_patterns = [
        path.as_posix() for path in patterns if path.parent.as_posix() in found.mixed and ".." not in path.parts
    ]
    root = Path.cwd()
    return [f"{root}/{path}/" for path in found.folders], [
        f"{root}/{path}" for path in (*found.files, *allowed_patterns)
    ]


class _ReadablePaths:
    def __init__(self) -> None:
        self.folders: list[str] = []
        self.files: list[str] = []
        self.mixed: set[str] = set()
        self._seen = 0

    def add_folder(self, folder: str, *, top: bool = False) -> bool:
        mark = len(self.folders), len(self.files)
        all_readable = not top
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                self._seen += 1
                if self._seen > _MAX_ENTRIES:
                    raise QueryRefused(
                        f"the project has more than {_MAX_ENTRIES} files, too many to restrict a query to"
                    )
                all_readable &= self._add_entry(entry.path.removeprefix("./"), entry)
        if all_readable:
            del self.folders[mark[0] :], self.files[mark[1] :]
            self.folders.append(folder)
        else:
            self.mixed.add(folder)
        return all_readable

    def _add_entry(self, path: str, entry: os.DirEntry[str]) -> bool:
        if entry.name.startswith("."):
            return entry.name in _HARMLESS and entry.is_file(follow_symlinks=False)
        if entry.is_symlink():
            return True  # DuckDB checks its target
        if entry.is_dir():
            return self.add_folder(path)
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            return False  # reading from a pipe may block forever
        self.files.append(path)
        return True


def _apply_limits(connection: Any, folders: list[str], files: list[str]) -> None:
    for setting in (
        f"allowed_directories={_sql(folders)}",
        f"allowed_paths={_sql(files)}",
        "threads=1",
        "preserve_insertion_order=true",
        "TimeZone='UTC'",
        "enable_external_access=false",
        "enable_progress_bar=false",
        "lock_configuration=true",
    ):
        connection.execute(f"SET {setting}")


def _sql(texts: list[str]) -> str:
    return "[" + ", ".join("'" + text.replace("'", "''") + "'" for text in texts) + "]"


def _json(columns: list[str], values: tuple[Any, ...], number: int) -> bytes:
    row = dict(zip(columns, values, strict=True))
    try:
        for value in values:
            _check_numbers(value)
        return orjson.dumps(row, default=_to_json, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError) as error:
        bad = next((name for name, value in row.items() if not _is_json(value)), columns[0])
        reason = str(error.__cause__ or error)
        raise QueryRefused(f"row {number}, column {bad}: {reason}") from error


def _is_json(value: Any) -> bool:
    try:
        _check_numbers(value)
        orjson.dumps(value, default=_to_json, option=orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        return False
    return True


def _check_numbers(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("JSON has no NaN or infinity; use nullif, or cast it to text")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        raise ValueError("this whole number is beyond 64 bits; cast it to text")
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, dict):
        for item in value.values():
            _check_numbers(item)


def _to_json(value: Any) -> Any:
    match value:
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal():
            # JSON readers take a fraction as a double, which has fewer digits than a decimal.
            if "." in str(value) and Decimal(repr(float(value))) != value:
                raise ValueError(f"a number cannot keep the digits of {value}; cast it to VARCHAR in `input.sql`")
            return orjson.Fragment(str(value))
        case UUID() | timedelta():
            return str(value)
        case tuple():
            return list(value)
        case bytes() | bytearray():
            raise ValueError("binary data is no text; decode or encode it in the query")
    raise ValueError(f"a {type(value).__name__} can't be used in a prompt; cast it to text")


def _reason(error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    denied = re.search('Cannot access file "([^"*?]+)"', first)
    inside = denied and not any(part in denied[1] for part in ("..", ":")) and not Path(denied[1]).is_absolute()
    if denied and inside and not Path(denied[1]).exists():
        return f"there is no file {denied[1]}"
    if "disabled by configuration" in first:
        return f"{first.split(' - ')[0]}: a query reads files of the project only, and none that are hidden"
    return first
