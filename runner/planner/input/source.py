"""Read a job's input as chunks of whole records, one in memory at a time, and hash it.

A new source is a generator of `Chunk`s, called from `_all_chunks`; it reports reads to `files` and raises InputError. A
new record format needs a reader in `parse.READERS`.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from runner.base.repository_paths import open_inside, readable
from runner.errors import InputError, NoInput, Problem, TrustError
from runner.jobspec.suggest import did_you_mean
from runner.planner.input import globs
from runner.planner.input.chunks import json_array, lines, separated
from runner.planner.input.parse import FRAMED, Chunk, frame_record
from runner.planner.input.sample import limited, sampled
from runner.planner.input.streams import CHUNK_BYTES, InputFiles, Stream, open_stream, utf16_of

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec
    from runner.jobspec.models import Input, RowFormat

_SUFFIXES: dict[str, RowFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_CUTTERS = {"jsonl": lines, "json": json_array}
_SEPARATED = {"csv", "tsv"}
_UNREADABLE = (OSError, EOFError, zlib.error)
_COMPRESSED = {".gz", ".zst"}
_MAX_LISTED = 1_000
MAX_FILES = (1 << 16) - 1
"""Files of one input: a row stores its file's number in two bytes."""


def read_chunks(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    """Yield the records a job selects, in order. Fills `files`. Raises InputError.

    Without limit and sample, iteration can continue with the next file after an InputError.
    """
    input_ = spec.job.input
    if input_.sample is not None:
        sample = sampled(_all_chunks(root, spec, InputFiles()), input_.sample.n, input_.sample.seed)
        return sample.pick(_all_chunks(root, spec, files))
    chunks = _all_chunks(root, spec, files)
    return chunks if input_.limit is None else limited(chunks, input_.limit)


def _all_chunks(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    input_ = spec.job.input
    if input_.rows is not None:
        return _inline_rows(spec, files)
    if input_.sql:
        from runner.planner.input.duckdb_client import query, sql_parameters  # noqa: PLC0415  starts a process; rarely needed

        return query(root, input_.sql, sql_parameters(spec), spec.problem("", "input", "sql"), files)
    return _text_rows(root, spec, files) if input_.text else _table_rows(root, spec, files)


def find_files(root: Path, spec: JobSpec, name: str) -> list[str]:
    """Return the files for field `name` of `input`, sorted and relative to the root.

    A glob skips hidden files. Raises NoInput if there are none.
    """
    pattern, place = str(getattr(spec.job.input, name)), spec.problem("", "input", name)
    try:
        readable(root, pattern)
        found = [pattern] if (root / pattern).is_file() else _matches(root, pattern)
    except TrustError as error:
        raise InputError([_problem_at(place, error.message, error.code)]) from error
    except (OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise InputError([_problem_at(place, f"can't search for {pattern}: {error}", "BS201")]) from error
    if not found:
        kind = InputError if "://" in pattern or (root / pattern).exists() else NoInput
        raise kind([_problem_at(place, _not_found(root, pattern), "BS201")])
    if len(found) > MAX_FILES:
        message = (
            f"{pattern} matches {len(found)} files; at most {MAX_FILES} are allowed; combine rows into fewer files"
        )
        raise InputError([_problem_at(place, message, "BS201")])
    return found


def _matches(root: Path, pattern: str) -> list[str]:
    if not any(mark in pattern for mark in globs.WILDCARDS):
        return []
    hidden = {part for part in Path(pattern).parts if part.startswith(".")}
    found = []
    for shown in globs.find(root, pattern):
        if all(not part.startswith(".") or hidden for part in shown.parts):
            found.append(shown.as_posix())
            readable(root, found[-1])
    return sorted(found)


def _not_found(root: Path, pattern: str) -> str:
    if "://" in pattern:
        return f"{pattern} is not a file of this project; download it first"
    if any(mark in pattern for mark in globs.WILDCARDS):
        return f"no file matches {pattern}, which is relative to the project's root"
    path = root / pattern
    if path.is_dir():
        return _folder_hint(path, pattern)
    if path.exists():
        return f"{pattern} is a device or a pipe; rows are read from plain files"
    siblings = [other.name for other in islice(path.parent.iterdir(), _MAX_LISTED)] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    return f"there is no input file {pattern}{f' ({hint})' if hint else ''}"


def _folder_hint(path: Path, pattern: str) -> str:
    files = [entry for entry in islice(path.iterdir(), _MAX_LISTED) if entry.is_file() and entry.name[0] != "."]
    kinds = Counter(
        _kind_suffix(entry) + _compression_suffix(entry) for entry in files if _kind_suffix(entry).lower() in _SUFFIXES
    )
    found = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    folder = pattern.rstrip("/")
    if not found:
        advice = f"for the files in it, write {folder}/*.jsonl or the like; it contains no row files now"
        return f"{pattern} is a folder; {advice}"
    counts = " and ".join(f"{kinds[kind]} {kind}" for kind in found)
    alternatives = "".join(f" or {folder}/*{kind}" for kind in found[1:])
    return f"{pattern} is a folder; for the files in it ({counts}), write {folder}/*{found[0]}{alternatives}"


def _kind_suffix(path: Path) -> str:
    return path.with_suffix("").suffix if _compression_suffix(path) else path.suffix


def _compression_suffix(path: Path) -> str:
    return path.suffix if path.suffix.lower() in _COMPRESSED else ""


def is_whole(input_: Input) -> bool:
    """Return whether the bytes of named files determine the rows."""
    return bool(input_.path) and not input_.sql and input_.limit is None and input_.sample is None


def hash_files(root: Path, spec: JobSpec, files: InputFiles) -> None:
    """Fill `files` as reading all of `read_chunks` does. Raises InputError."""
    for path in find_files(root, spec, "path"):
        files.add_file(path)
        try:
            with open_inside(root, path) as raw:
                while data := raw.read(CHUNK_BYTES):
                    files.add_bytes(data)
        except OSError as error:
            raise InputError([Problem(path, 0, 0, f"cannot be read: {error}", code="BS202")]) from error


def input_size(root: Path, spec: JobSpec) -> int:
    """Return the total bytes. Raises InputError."""
    paths = find_files(root, spec, "path")
    return sum((root / path).stat().st_size for path in paths)


def kind_of(path: str, spec: Input) -> RowFormat:
    """Return a file's format. Raises ValueError."""
    if spec.format is not None:
        return spec.format
    suffix = _kind_suffix(Path(path))
    if suffix.lower() not in _SUFFIXES:
        known = "jsonl, json, csv, tsv or parquet"
        raise ValueError(f"the format of {path} is unknown; set `format` under `input` to {known}")
    return _SUFFIXES[suffix.lower()]


def _table_rows(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    input_, place = spec.job.input, spec.problem("", "input", "path")
    paths = find_files(root, spec, "path")
    try:
        kinds = [kind_of(path, input_) for path in paths]
    except ValueError as error:
        raise InputError([_problem_at(place, f"{error}{_excel_hint(root, paths, input_)}", "BS202")]) from error
    other = next((path for path, kind in zip(paths, kinds, strict=True) if kind not in _SEPARATED), None)
    if input_.delimiter and other is not None:
        message = f"`input.delimiter` is for csv only, not for {other}; remove it, or set `format: csv`"
        raise InputError([_problem_at(spec.problem("", "input", "delimiter"), message, "BS202")])
    files.total += sum((root / path).stat().st_size for path in paths)

    def table(number: int) -> Iterator[Chunk]:
        path, kind = paths[number], kinds[number]
        if kind == "parquet":
            from runner.planner.input.duckdb_client import read_parquet  # noqa: PLC0415  starts a process; rarely needed

            yield from read_parquet(root, path, place, files)
            return
        with _InputFile(root, path, files, input_.encoding) as stream:
            if kind in _SEPARATED:
                yield from separated(stream, path, number, kind, input_.delimiter)
            else:
                yield from _CUTTERS[kind](stream, path, number, kind)
            stream.drain()

    return chain.from_iterable(map(table, range(len(paths))))


def _excel_hint(root: Path, paths: list[str], input_: Input) -> str:
    path = next((path for path in paths if _kind_suffix(Path(path)).lower() not in _SUFFIXES), paths[0])
    with open_inside(root, path) as raw:
        head = raw.read(1 << 10)
    if not utf16_of(head):
        return ""
    encoding = "" if input_.encoding.lower().startswith("utf-16") else " and `encoding: utf-16`"
    return f'; it looks like Excel\'s "Unicode Text": write `format: tsv`{encoding}'


def _text_rows(root: Path, spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    paths = find_files(root, spec, "text")

    def text(number: int) -> Iterator[Chunk]:
        path = paths[number]
        with _InputFile(root, path, files, spec.job.input.encoding) as stream:
            row = {"path": path, "name": Path(path).stem, "text": stream.read_text(path)}
            yield Chunk(number, 1, f"jsonl{FRAMED}", frame_record(1, orjson.dumps(row)))

    return chain.from_iterable(map(text, range(len(paths))))


def _inline_rows(spec: JobSpec, files: InputFiles) -> Iterator[Chunk]:
    files.add_file(spec.file)
    records = []
    for number, row in enumerate(spec.job.input.rows or ()):
        text = orjson.dumps(row)
        files.add_bytes(text)
        records.append(frame_record(spec.problem("", "input", "rows", number).line, text))
    yield Chunk(0, 1, f"jsonl{FRAMED}", b"".join(records))


class _InputFile:
    def __init__(self, root: Path, path: str, files: InputFiles, encoding: str) -> None:
        self._root, self._path, self._files, self._encoding = root, path, files, encoding
        self._stream: Stream | None = None

    def __enter__(self) -> Stream:
        self._files.add_file(self._path)
        try:
            self._stream = open_stream(self._root, self._path, self._files, self._encoding)
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
            reason = "the compressed data is truncated; copy the file again"
        else:
            reason = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise InputError([Problem(self._path, 0, 0, reason, code="BS202")]) from error


def _problem_at(place: Problem, message: str, code: str) -> Problem:
    return Problem(place.file, place.line, place.column, message, "", place.excerpt, code)
