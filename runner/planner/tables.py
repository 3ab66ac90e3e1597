"""SQL and parquet through DuckDB, in a process of its own that is killed when the rows are no longer wanted.

A spec may be a stranger's, so the query runs locked in: one SELECT, files of the project and nothing else, no network,
no extensions, no settings. Rows come in the query's order; one thread keeps that order the same everywhere.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import orjson

from runner.errors import InputError, Problem
from runner.planner.files import CHUNK_BYTES, InputFiles, check_no_pointer
from runner.planner.rows import FRAMED, Chunk, frame_record
from runner.spec.trust import inside

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from runner.planner.locked import main; main()"
QUERY = "the rows of input.sql"
"""What stands in the place of a file name in problems with a query's rows."""


def query(root: Path, sql: str, place: Problem, files: InputFiles) -> Iterator[Chunk]:
    """The rows of a query over the project's files. Raises InputError at `place`."""
    files.add_file(QUERY)
    yield from _run(root, {"sql": sql}, place, files, hashed=True)


def read_parquet(root: Path, path: str, place: Problem, files: InputFiles) -> Iterator[Chunk]:
    """The rows of a parquet file. Raises InputError at `place`."""
    files.add_file(path)
    with inside(root, path).open("rb") as raw:
        check_no_pointer(raw, path)
        while data := raw.read(CHUNK_BYTES):
            files.add_bytes(data)
    yield from _run(root, {"parquet": path}, place, files, hashed=False)


def _run(root: Path, order: dict[str, str], place: Problem, files: InputFiles, *, hashed: bool) -> Iterator[Chunk]:
    if importlib.util.find_spec("duckdb") is None:
        what = "an `input.sql`" if "sql" in order else "parquet"
        hint = "pip install 'batchspec[duckdb]'"
        raise InputError(
            [Problem(place.file, place.line, place.column, f"{what} needs DuckDB", hint, place.excerpt, "BS209")]
        )
    number = len(files.paths) - 1
    with (
        TemporaryDirectory(prefix="batchspec-") as spill,
        subprocess.Popen(  # noqa: S603  our own program, no shell
            [sys.executable, "-c", _BOOT, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=root,
            env={"PATH": os.environ.get("PATH", "")},  # no key of the user's is within reach of the query
        ) as process,
    ):
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(orjson.dumps({**order, "spill": spill}))
            process.stdin.close()
            records, size = [], 0
            for line, text in _frames(process.stdout):
                if line == 0:
                    raise InputError([_at(place, text.decode())])
                if hashed:
                    files.add_bytes(text)
                records.append(frame_record(line, text))
                size += len(text)
                if size >= CHUNK_BYTES:
                    yield Chunk(number, 1, f"jsonl{FRAMED}", b"".join(records))
                    records, size = [], 0
            if process.wait() != 0:
                raise InputError([_at(place, "DuckDB ended before its time; is this machine short of memory?")])
            if records:
                yield Chunk(number, 1, f"jsonl{FRAMED}", b"".join(records))
        finally:
            process.kill()


def _frames(pipe: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    while head := pipe.readline():
        line, size = map(int, head.split())
        text = pipe.read(size)
        if len(text) < size:
            return
        yield line, text


def _at(place: Problem, message: str) -> Problem:
    return Problem(place.file, place.line, place.column, message, "", place.excerpt, "BS209")
