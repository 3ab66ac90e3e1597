"""SQL and Parquet through DuckDB, in a process that is killed when no more rows are wanted.

The query is untrusted, so it is confined: one SELECT, project files only, no network, extensions or settings. One
thread keeps the rows' order.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any

import orjson

from runner.base.repository_paths import open_inside
from runner.errors import InputError, NoInput, Problem
from runner.jobspec.periods import following, parse_name
from runner.planner.confine import environment, import_path
from runner.planner.input.limits import SQL_SECONDS
from runner.planner.input.parse import FRAMED, Chunk, frame_record
from runner.planner.input.streams import CHUNK_BYTES, InputFiles, check_no_pointer

if TYPE_CHECKING:
    from runner.jobspec.job_spec import JobSpec

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from runner.planner.input.duckdb_worker import main; main()"
_SLOW_HINT = f"if you trust the query, raise the limit with the environment variable {SQL_SECONDS}"
QUERY_NAME = "the rows of input.sql"
"""Shown instead of a file name in problems of a query's rows."""


def sql_parameters(spec: JobSpec) -> dict[str, Any]:
    """Return the values of `$NAME` in a query: vars, and the period's start and end.

    A period's values are dates, or times in UTC for hours. They are marked: JSON has no dates.
    """
    values: dict[str, Any] = {name: {"value": value} for name, value in spec.job.vars.items()}
    axes = spec.axes
    if axes.schedule is not None and axes.period in spec.values:
        every = axes.schedule.every
        kind = "timestamp" if every == "hour" else "date"
        start = parse_name(every, str(spec.values[axes.period]))
        values[axes.period] = {"value": start.isoformat(), "as": kind}
        values[f"{axes.period}_end"] = {"value": following(every, start).isoformat(), "as": kind}
    return values


def query(root: Path, sql: str, parameters: Mapping[str, Any], place: Problem, files: InputFiles) -> Iterator[Chunk]:
    """Yield a query's rows. Raises InputError at `place`."""
    files.add_file(QUERY_NAME)
    yield from _run(root, {"sql": sql, "parameters": parameters}, place, files, hash_rows=True)


def read_parquet(root: Path, path: str, place: Problem, files: InputFiles) -> Iterator[Chunk]:
    """Yield a Parquet file's rows. Raises InputError at `place`."""
    files.add_file(path)
    with open_inside(root, path) as raw:
        check_no_pointer(raw, path)
        while data := raw.read(CHUNK_BYTES):
            files.add_bytes(data)
    yield from _run(root, {"parquet": path}, place, files, hash_rows=False)


def _run(root: Path, request: dict[str, Any], place: Problem, files: InputFiles, *, hash_rows: bool) -> Iterator[Chunk]:
    if importlib.util.find_spec("duckdb") is None:
        feature = "an `input.sql`" if "sql" in request else "parquet"
        hint = "pip install 'batchspec[duckdb]'"
        raise InputError(
            [Problem(place.file, place.line, place.column, f"{feature} needs DuckDB", hint, place.excerpt, "BS209")]
        )
    number = len(files.paths) - 1
    with (
        TemporaryDirectory(prefix="batchspec-") as spill,
        subprocess.Popen(  # noqa: S603  our own program, no shell
            [sys.executable, "-I", "-S", "-c", _BOOT, *import_path()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env=environment(),  # without keys
        ) as process,
    ):
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            seconds = files.limits.sql_seconds
            process.stdin.write(orjson.dumps({**request, "spill": spill, "seconds": seconds}))
            process.stdin.close()
            time_limit, frames = TimeLimit(process, seconds), _frames(process.stdout)
            while True:
                with time_limit:
                    records = _read_batch(frames)
                    code = None if records else process.wait()
                if time_limit.expired:
                    raise InputError([_problem_at(place, f"the query took more than {seconds} s", _SLOW_HINT)])
                if code is not None:
                    break
                if records[-1][0] <= 0:
                    kind = InputError if records[-1][0] == 0 else NoInput
                    raise kind([_problem_at(place, records[-1][1].decode())])
                for _, text in records:
                    if hash_rows:
                        files.add_bytes(text)
                    files.count_unpacked(len(text), files.paths[number])
                yield Chunk(number, 1, f"jsonl{FRAMED}", b"".join(frame_record(*record) for record in records))
            if code != 0:
                raise InputError([_problem_at(place, "DuckDB ended unexpectedly; the machine may be short of memory")])
        finally:
            process.kill()


class TimeLimit:
    """Kills a process that works too long. Enter it around each wait; other time does not count."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self.expired = False
        self._process, self._remaining, self._started = process, seconds, 0.0
        self._timer = threading.Timer(0, self._expire)

    def __enter__(self) -> None:
        self._started = time.monotonic()
        self._timer = threading.Timer(max(self._remaining, 0.0), self._expire)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._remaining -= time.monotonic() - self._started

    def _expire(self) -> None:
        self.expired = True
        self._process.kill()


def _read_batch(frames: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return about one chunk of rows. A last row with line 0 carries an error."""
    records, size = [], 0
    for line, text in frames:
        records.append((line, text))
        size += len(text)
        if size >= CHUNK_BYTES or line <= 0:
            break
    return records


def _frames(pipe: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    while head := pipe.readline():
        line, size = map(int, head.split())
        text = pipe.read(size)
        if len(text) < size:
            return
        yield line, text


def _problem_at(place: Problem, message: str, hint: str = "") -> Problem:
    return Problem(place.file, place.line, place.column, message, hint, place.excerpt, "BS209")
