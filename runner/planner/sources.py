"""The input as chunks of whole records. Streamed; memory is one chunk.

A chunk is bytes, so that it can go to another process; `runner.planner.rows` turns it into Python values there. What
is read is hashed on the way, so that the lockfile can say which input gave these requests.

A new source is a generator of `Chunk`s, called from `_all_chunks`; it hands what it reads to `files` and raises
InputError. Where the records are no JSON lines or csv, their kind gets a reader in `rows.READERS`; whatever is cheap to
write as JSON needs none. Limits and samples are in `runner.planner.choose`: workers render what they are given, in any
order, and know nothing of the rows before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from runner.errors import InputError, Problem, TrustError
from runner.planner.choose import limited, sampled
from runner.planner.files import CHUNK_BYTES, InputFiles, Stream, open_stream
from runner.planner.records import json_array, lines, separated
from runner.planner.rows import FRAMED, Chunk, frame_record
from runner.spec.trust import inside

if TYPE_CHECKING:
    from runner.spec.load import JobSpec
    from runner.spec.models import Input, RowFormat

_SUFFIXES: dict[str, RowFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_CUTTERS = {"jsonl": lines, "json": json_array, "csv": separated, "tsv": separated}
_UNREADABLE = (OSError, EOFError, zlib.error)
_PACKED = {".gz", ".zst"}


def read_chunks(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    """All records of a job's input that it wants, in order, as chunks. Fills `files`. Raises InputError."""
    chosen = spec.job.input
    if chosen.sample is not None:
        places = sampled(_all_chunks(root, spec, InputFiles()), chosen.sample.n, chosen.sample.seed)
        return places.pick(_all_chunks(root, spec, files))
    chunks = _all_chunks(root, spec, files)
    return chunks if chosen.limit is None else limited(chunks, chosen.limit)


def _all_chunks(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    chosen = spec.job.input
    if chosen.rows is not None:
        return _inline(spec, files)
    if chosen.sql:
        from runner.planner.tables import query  # noqa: PLC0415  a process of its own, seldom wanted

        return query(root, chosen.sql, spec.problem("", "input", "sql"), files)
    return _texts(root, spec, files) if chosen.text else _tables(root, spec, files)


def find_files(root: Path, pattern: str, place: Problem) -> list[str]:
    """Files by path or glob, sorted, relative to the root. Raises InputError at `place` where there is none."""
    try:
        if any(mark in pattern for mark in "*?["):
            found = sorted(p.relative_to(root).as_posix() for p in root.glob(pattern) if p.is_file())
            for path in found:
                inside(root, path)
        else:
            found = [pattern] if inside(root, pattern).is_file() else []
    except TrustError as error:
        raise InputError([_at(place, error.message)]) from error
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError([_at(place, f"{pattern} can't be looked for: {error}")]) from error
    if not found:
        globbed = any(mark in pattern for mark in "*?[")
        raise InputError([_at(place, f"no file matches {pattern}" if globbed else f"there is no input file {pattern}")])
    return found


def is_whole(chosen: Input) -> bool:
    """Whether an input is all rows of files that the spec names, so that their bytes alone say what it holds."""
    return bool(chosen.path) and not chosen.sql and chosen.limit is None and chosen.sample is None


def hash_files(root: Path, spec: JobSpec, files: InputFiles) -> None:
    """Fill `files` as `read_chunks` does when it has been read to its end, without making chunks. Raises InputError."""
    for path in find_files(root, spec.job.input.path, spec.problem("", "input", "path")):
        files.add_file(path)
        try:
            with (root / path).open("rb", buffering=0) as raw:
                while data := raw.read(CHUNK_BYTES):
                    files.add_bytes(data)
        except OSError as error:
            raise InputError([Problem(path, 0, 0, f"cannot be read: {error}")]) from error


def size_of(root: Path, spec: JobSpec) -> int:
    """Bytes of the input's files together. Raises InputError."""
    paths = find_files(root, spec.job.input.path, spec.problem("", "input", "path"))
    return sum((root / path).stat().st_size for path in paths)


def kind_of(path: str, spec: Input) -> RowFormat:
    """The format of a file: what the spec says, else what its name says. Raises ValueError."""
    if spec.format is not None:
        return spec.format
    name = Path(path)
    suffix = name.with_suffix("").suffix if name.suffix.lower() in _PACKED else name.suffix
    if suffix.lower() not in _SUFFIXES:
        known = "jsonl, json, csv, tsv or parquet"
        raise ValueError(f"cannot tell the format of {path}: say `format` under `input`: {known}")
    return _SUFFIXES[suffix.lower()]


def _tables(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    """The rows of files."""
    chosen, place = spec.job.input, spec.problem("", "input", "path")
    paths = find_files(root, chosen.path, place)
    try:
        kinds = [kind_of(path, chosen) for path in paths]
    except ValueError as error:
        raise InputError([_at(place, str(error))]) from error
    files.total += sum((root / path).stat().st_size for path in paths)
    for number, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
        if kind == "parquet":
            from runner.planner.tables import read_parquet  # noqa: PLC0415  a process of its own, seldom wanted

            yield from read_parquet(root, path, place, files)
            continue
        with _reading(root, path, files, chosen.encoding) as stream:
            yield from _CUTTERS[kind](stream, path, number, kind)
            stream.drain()


def _texts(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    """Each file as one row: its path, its name without the last suffix, and its text."""
    chosen = spec.job.input
    paths = find_files(root, chosen.text, spec.problem("", "input", "text"))
    for number, path in enumerate(paths):
        with _reading(root, path, files, chosen.encoding) as stream:
            data = stream.read_text(path)
            row = {"path": path, "name": Path(path).stem, "text": data}
            yield Chunk(number, 1, f"jsonl{FRAMED}", frame_record(1, orjson.dumps(row)))


def _inline(spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    """The rows that stand in the spec, each with its line there."""
    files.add_file(spec.file)
    records = []
    for number, row in enumerate(spec.job.input.rows or ()):
        text = orjson.dumps(row)
        files.add_bytes(text)
        records.append(frame_record(spec.problem("", "input", "rows", number).line, text))
    yield Chunk(0, 1, f"jsonl{FRAMED}", b"".join(records))


class _reading:  # noqa: N801  used like a function
    """A file of the input, open; what goes wrong while it is read becomes an InputError that names it."""

    def __init__(self, root: Path, path: str, files: InputFiles, encoding: str) -> None:
        self._root, self._path, self._files, self._encoding = root, path, files, encoding
        self._stream: Stream | None = None

    def __enter__(self) -> Stream:
        self._files.add_file(self._path)
        try:
            self._stream = open_stream(inside(self._root, self._path), self._path, self._files, self._encoding)
        except _UNREADABLE as error:
            self._fail(error)
        assert self._stream is not None
        return self._stream

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._stream is not None:
            self._stream.close()
        if isinstance(error, _UNREADABLE):
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, EOFError):
            reason = "it is cut short: its compressed data has no end; was it copied whole?"
        else:
            reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError([Problem(self._path, 0, 0, reason)]) from error


def _at(place: Problem, message: str) -> Problem:
    return Problem(place.file, place.line, place.column, message, excerpt=place.excerpt)
