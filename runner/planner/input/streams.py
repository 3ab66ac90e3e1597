"""Input files as UTF-8: decompressed, decoded, and hashed as on disk."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from runner.base import lfs
from runner.base.repository_paths import open_inside
from runner.errors import InputError, Problem
from runner.planner.input.limits import INPUT_BYTES, INPUT_RATIO, Limits, limits_of
from runner.planner.input.parse import NOT_UTF8, RECORD_BYTES

CHUNK_BYTES = 1 << 20
"""Approximate size of a chunk; a chunk ends at a record boundary."""
_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 256
"""Bytes at the start of a file used to detect UTF-16."""
_MIN_PAIRS = 4
_STEP_BYTES = 1 << 11
"""Compressed bytes unpacked at a time: at most 64 MB unpacked (RFC 8878: 128 KiB from 4 bytes)."""


@dataclass(slots=True)
class InputFiles:
    """The files read: paths relative to the root, and the SHA-256 over names and bytes.

    `size` is bytes read, of `total`. `unpacked` counts bytes from compressed files and queries.
    """

    paths: list[str] = field(default_factory=list)
    size: int = 0
    total: int = 0
    unpacked: int = 0
    limits: Limits = field(default_factory=limits_of)
    _digest: Any = field(default_factory=hashlib.sha256)

    def digest(self) -> str:
        """Return 64 hex digits over everything read."""
        return str(self._digest.hexdigest())

    def add_file(self, path: str) -> None:
        """Start a file. Its name is hashed too."""
        self.paths.append(path)
        self._digest.update(b"\0" + path.encode(errors="surrogateescape") + b"\0")

    def add_bytes(self, data: bytes | memoryview) -> None:
        """Count and hash bytes."""
        self.size += len(data)
        self._digest.update(data)

    def count_unpacked(self, count: int, path: str) -> None:
        """Count unpacked bytes. Raises InputError beyond the limit."""
        self.unpacked += count
        limit = self.limits.unpacked(max(self.size, self.total))
        if self.unpacked > limit:
            name = INPUT_BYTES if limit == self.limits.input_bytes else INPUT_RATIO
            message = f"the input unpacks to more than {limit} bytes"
            hint = f"if you trust it, raise the limit with the environment variable {name}"
            raise InputError([Problem(path, 0, 0, message, hint, code="BS202")])


class _CountingReader(io.RawIOBase):
    def __init__(self, stream: Any, files: InputFiles, path: str) -> None:
        super().__init__()
        self._stream, self._files, self._path = stream, files, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._stream.readinto(buffer)
        self._files.count_unpacked(count, self._path)
        return count


class _HashingReader(io.RawIOBase):
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


class _ZstdReader(io.RawIOBase):
    """Raises EOFError for truncated zstandard frames, unlike the library."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__()
        import zstandard  # noqa: PLC0415  only for .zst

        self._raw = raw
        self._error = zstandard.ZstdError
        self._new = zstandard.ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._decoded = memoryview(b"")
        self._unread = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decoded:
            read = self._unread or self._raw.read(1 << 17)
            # A few bytes may unpack to many, so take a few at a time.
            data, self._unread = read[:_STEP_BYTES], read[_STEP_BYTES:]
            if not data:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = self._frame or self._new()
            try:
                self._decoded = memoryview(self._frame.decompress(data))
            except self._error as error:
                raise OSError(f"not valid zstandard data: {error}") from error
            if self._frame.eof:
                self._unread = self._frame.unused_data + self._unread
                self._frame = None
        count = min(len(buffer), len(self._decoded))
        buffer[:count] = self._decoded[:count]
        self._decoded = self._decoded[count:]
        return count


class _DecodingReader(io.RawIOBase):
    """Recodes to UTF-8. Raises InputError at an invalid byte."""

    def __init__(self, raw: IO[bytes], encoding: str, path: str) -> None:
        super().__init__()
        self._raw = raw
        self._encoding = encoding
        self._path = path
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._line, self._column = 1, 1
        self._decoded = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decoded:
            data = self._raw.read(1 << 17)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise self._decode_error(error) from error
            except UnicodeError as error:  # UTF-16 without its mark
                raise InputError(
                    [Problem(self._path, 0, 0, f"the file is not {self._encoding}: {error}", code="BS202")]
                ) from error
            self._advance(text)
            self._decoded = text.encode()
            if not data:
                break
        count = min(len(buffer), len(self._decoded))
        buffer[:count] = self._decoded[:count]
        self._decoded = self._decoded[count:]
        return count

    def _advance(self, text: str) -> None:
        ends = text.count("\n")
        self._line += ends
        self._column = len(text) - text.rfind("\n") if ends else self._column + len(text)

    def _decode_error(self, error: UnicodeDecodeError) -> InputError:
        self._advance(error.object[: error.start].decode(self._encoding, errors="replace"))
        byte = error.object[error.start]
        message = f"byte 0x{byte:02x} is not valid {self._encoding}; correct `encoding` under `input`"
        return InputError([Problem(self._path, self._line, self._column, message, code="BS202")])


class Stream:
    """An input file in UTF-8, decompressed, without byte order mark."""

    def __init__(self, raw: _HashingReader, unpacked: IO[bytes], closing: IO[bytes]) -> None:
        self._raw = raw
        self._bytes = unpacked
        self._closing = closing
        self._start = self._bytes.read(len(_BOM)).removeprefix(_BOM)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, plus a few at the start; empty at the end."""
        start, self._start = self._start, b""
        return start + self._bytes.read(size)

    def read_text(self, path: str) -> str:
        """Return the whole file. Raises InputError if too long or not UTF-8."""
        data = self.read(RECORD_BYTES + 1)
        if len(data) > RECORD_BYTES:
            raise InputError([Problem(path, 0, 0, f"the file is longer than {RECORD_BYTES} bytes", code="BS202")])
        self.drain()
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            line, start = data.count(b"\n", 0, error.start) + 1, data.rfind(b"\n", 0, error.start) + 1
            column = len(data[start : error.start].decode()) + 1
            message = NOT_UTF8.format(data[error.start])
            raise InputError([Problem(path, line, column, message, code="BS202")]) from error

    def drain(self) -> None:
        """Read to the end, to hash what the decompressor ignored."""
        while self._raw.read(1 << 20):
            pass

    def close(self) -> None:
        """Close the file."""
        self._closing.close()


def check_no_pointer(raw: io.BufferedReader, shown: str) -> None:
    """Raise InputError for a Git LFS pointer. Peeks only."""
    if lfs.is_pointer(raw.peek(len(lfs.MARK) + 1)):
        raise InputError([Problem(shown, 0, 0, lfs.message(shown), code="BS202")])


def _refuse_utf16(stream: IO[bytes], shown: str) -> IO[bytes]:
    buffered = io.BufferedReader(stream, 1 << 18)  # type: ignore[type-var]  # typeshed asks for less than IO[bytes]
    head = buffered.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    if name := utf16_of(head):
        message = f"the file is UTF-16; write `encoding: {name}` under `input`"
        if b"\t" in head:
            message += ', and `format: tsv` if tabs separate the columns, as in Excel\'s "Unicode Text"'
        raise InputError([Problem(shown, 0, 0, message, code="BS202")])
    return buffered


def utf16_of(head: bytes) -> str:
    """Return the UTF-16 encoding of a file with these first bytes, or an empty string.

    Without a byte order mark, every second byte of ASCII text is zero.
    """
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    first, second = head[0:-1:2], head[1::2]
    if len(second) >= _MIN_PAIRS and second.count(0) > len(second) // 2 and first.count(0) == 0:
        return "utf-16-le"
    if len(second) >= _MIN_PAIRS and first.count(0) > len(first) // 2 and second.count(0) == 0:
        return "utf-16-be"
    return ""


def open_stream(root: Path, shown: str, files: InputFiles, encoding: str) -> Stream:
    """Open an input file by its path in the project.

    Raises TrustError, OSError, and EOFError or zlib.error if damaged.
    """
    path = Path(shown)
    raw = open_inside(root, shown)
    try:
        check_no_pointer(raw, shown)
        hashing = _HashingReader(raw, files)
        stream: IO[bytes] = io.BufferedReader(hashing, CHUNK_BYTES)
        if path.suffix.lower() == ".gz":
            stream = io.BufferedReader(_CountingReader(gzip.GzipFile(fileobj=stream), files, shown), 1 << 18)
        elif path.suffix.lower() == ".zst":
            stream = io.BufferedReader(_CountingReader(_ZstdReader(stream), files, shown), 1 << 18)
        if encoding.lower().replace("_", "-") not in {"utf-8", "utf8"}:
            stream = io.BufferedReader(_DecodingReader(stream, encoding, shown), 1 << 18)
        else:
            stream = _refuse_utf16(stream, shown)
        return Stream(hashing, stream, raw)
    except BaseException:
        raw.close()
        raise
