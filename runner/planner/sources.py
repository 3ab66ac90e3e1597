"""The input as chunks of whole records. Streamed; memory is one chunk.

A chunk is bytes, so that it can go to another process; `runner.planner.rows` turns it into Python values there. What
is read is hashed on the way, so that the lockfile can say which input gave these requests.

A new source is a generator of `Chunk`s, called from `read_chunks`; it hands what it reads to `files` and raises
InputError. Where the records are no JSON lines or csv, their kind gets a reader in `rows.READERS`; whatever is cheap to
write as JSON lines needs none. Limits and samples are a generator around `read_chunks` that cuts chunks: workers render
what they are given, in any order, and know nothing of the rows before it.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from runner.errors import InputError, Problem
from runner.planner.rows import RECORD_BYTES, Chunk
from runner.spec.trust import inside

if TYPE_CHECKING:
    from runner.spec.models import Input

CHUNK_BYTES = 1 << 20
"""Bytes of a chunk, about; a chunk ends with a whole record."""

Kind = Literal["jsonl", "csv", "tsv"]
_SUFFIXES: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class InputFiles:
    """What was read: paths relative to the project's root, and the SHA-256 over all files' bytes and names.

    `size` is how many bytes were read, `total` how many there are, for progress.
    """

    paths: list[str] = field(default_factory=list)
    size: int = 0
    total: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def digest(self) -> str:
        """64 hex digits over what has been read so far."""
        return str(self._digest.hexdigest())

    def add_file(self, path: str) -> None:
        """Begin a file; its name counts, so that moving rows between files shows."""
        self.paths.append(path)
        self._digest.update(b"\0" + path.encode() + b"\0")

    def add_bytes(self, data: bytes | memoryview) -> None:
        """Take in bytes as they stand on disk."""
        self.size += len(data)
        self._digest.update(data)


class _Hashing(io.RawIOBase):
    """A raw file that hands every byte it reads to `files`."""

    def __init__(self, raw: IO[bytes], files: InputFiles) -> None:
        super().__init__()
        self._raw = raw
        self._files = files

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._raw.readinto(buffer)  # type: ignore[attr-defined]  # typeshed: IO has none
        self._files.add_bytes(memoryview(buffer)[:count])
        return count

    def drain(self) -> None:
        """Read on to the end, so that the digest covers bytes a decompressor left unread."""
        while data := self._raw.read(1 << 20):
            self._files.add_bytes(data)


def find_files(root: Path, spec: Input, place: Problem) -> list[str]:
    """The input's files, sorted, relative to the root. Raises InputError at `place` where there is none."""
    if any(mark in spec.path for mark in "*?["):
        found = sorted(p.relative_to(root).as_posix() for p in root.glob(spec.path) if p.is_file())
        for path in found:
            inside(root, path)
        if not found:
            raise InputError([_at(place, f"no file matches {spec.path}")])
        return found
    if not inside(root, spec.path).is_file():
        raise InputError([_at(place, f"there is no input file {spec.path}")])
    return [spec.path]


def hash_files(root: Path, spec: Input, place: Problem, files: InputFiles) -> None:
    """Fill `files` as `read_chunks` does when it has been read to its end, without making chunks. Raises InputError."""
    for path in find_files(root, spec, place):
        files.add_file(path)
        try:
            with (root / path).open("rb", buffering=0) as raw:
                while data := raw.read(CHUNK_BYTES):
                    files.add_bytes(data)
        except OSError as error:
            raise InputError([Problem(path, 0, 0, f"cannot be read: {error}")]) from error


def size_of(root: Path, spec: Input, place: Problem) -> int:
    """Bytes of the input's files together. Raises InputError."""
    return sum((root / path).stat().st_size for path in find_files(root, spec, place))


def kind_of(path: str, spec: Input) -> Kind:
    """The format of a file: what the spec says, else what its name says. Raises ValueError."""
    if spec.format is not None:
        return spec.format
    name = Path(path)
    suffix = name.with_suffix("").suffix if name.suffix in {".gz", ".zst"} else name.suffix
    if suffix.lower() not in _SUFFIXES:
        raise ValueError(f"cannot tell the format of {path}: say `format: jsonl`, csv or tsv under `input`")
    return _SUFFIXES[suffix.lower()]


def read_chunks(root: Path, spec: Input, place: Problem, files: InputFiles) -> Iterator[Chunk]:
    """All records of the input, in order, as chunks. Fills `files`. Raises InputError."""
    found = find_files(root, spec, place)
    files.total = sum((root / path).stat().st_size for path in found)
    for number, path in enumerate(found):
        try:
            kind = kind_of(path, spec)
        except ValueError as error:
            raise InputError([_at(place, str(error))]) from error
        files.add_file(path)
        try:
            with (root / path).open("rb", buffering=0) as raw:
                hashing = _Hashing(raw, files)
                stream = _decompressed(path, hashing)
                yield from (_lines if kind == "jsonl" else _records)(stream, path, number, kind)
                hashing.drain()
        except (OSError, EOFError) as error:
            raise InputError([Problem(path, 0, 0, f"cannot be read: {error}")]) from error


def _decompressed(path: str, raw: _Hashing) -> IO[bytes]:
    buffered = io.BufferedReader(raw, CHUNK_BYTES)
    if path.endswith(".gz"):
        unpacked: IO[bytes] = gzip.GzipFile(fileobj=buffered)  # type: ignore[assignment]  # typeshed: no IO[bytes]
        return unpacked
    if path.endswith(".zst"):
        import zstandard  # noqa: PLC0415  only for .zst

        stream: IO[bytes] = io.BufferedReader(
            zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True), 1 << 18
        )
        return stream
    return buffered


def _lines(stream: IO[bytes], path: str, number: int, kind: Kind) -> Iterator[Chunk]:
    line, rest = 1, b""
    while data := stream.read(CHUNK_BYTES):
        if line == 1 and not rest:
            data = data.removeprefix(_BOM)
        cut = data.rfind(b"\n") + 1
        if not cut:
            rest += data
            if len(rest) > RECORD_BYTES:
                raise InputError([Problem(path, line, 0, f"the line is longer than {RECORD_BYTES} bytes")])
            continue
        whole, rest = rest + data[:cut], data[cut:]
        yield Chunk(number, line, kind, whole)
        line += whole.count(b"\n")
    if rest:
        yield Chunk(number, line, kind, rest)


class _Recorder:
    """Hands lines to the csv reader and keeps them, so that a chunk is cut exactly between records."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.kept: list[str] = []
        self.size = 0

    def __iter__(self) -> _Recorder:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.kept.append(line)
        self.size += len(line)
        return line

    def take(self) -> bytes:
        data = "".join(self.kept).encode()
        self.kept, self.size = [], 0
        return data


def _records(stream: IO[bytes], path: str, number: int, kind: Kind) -> Iterator[Chunk]:
    csv.field_size_limit(RECORD_BYTES)
    recorder = _Recorder(iter(io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")))
    reader = csv.reader(recorder, delimiter=_DELIMITERS[kind], strict=True)
    try:
        header = tuple(next(reader, ()))
        problem = _header_problem(header)
        if problem:
            raise InputError([Problem(path, 1, 0, problem)])
        recorder.take()
        line = reader.line_num + 1
        for _ in reader:
            if recorder.size >= CHUNK_BYTES:
                yield Chunk(number, line, kind, recorder.take(), header)
                line = reader.line_num + 1
        if recorder.size:
            yield Chunk(number, line, kind, recorder.take(), header)
    except csv.Error as error:
        raise InputError([Problem(path, reader.line_num, 0, f"not valid {kind}: {error}")]) from error
    except UnicodeDecodeError as error:
        message = f"not valid UTF-8: byte 0x{error.object[error.start]:02x}"
        raise InputError([Problem(path, reader.line_num + 1, 0, message)]) from error


def _header_problem(header: tuple[str, ...]) -> str:
    if not header:
        return "the file is empty; its first line must name the columns"
    doubled = sorted({name for name in header if header.count(name) > 1})
    return f"the header names {', '.join(doubled)} twice" if doubled else ""


def _at(place: Problem, message: str) -> Problem:
    return Problem(place.file, place.line, place.column, message, excerpt=place.excerpt)
