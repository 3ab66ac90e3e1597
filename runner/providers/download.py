"""One file on its way to disk, over as many connections as it takes.

A download goes on where it broke if the storage gives strong ETags and takes ranges; what comes back is checked before
a byte of it is kept, because a storage may answer with the whole file, with another range, or with another file.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import IO

import httpx

from runner.errors import Malformed, Unreachable
from runner.providers.http import MAX_ERROR_BODY, Now, read_start
from runner.providers.http_errors import map_httpx_errors, storage_error_from_response
from runner.providers.protocol import Progress

PIECE = 1 << 20
"""Bytes that compressed data is unpacked into at once, whatever its ratio."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_PLAIN = {"identity", ""}
_GZIP = {"gzip", "x-gzip"}


class ByteProgress:
    """How many bytes of one file have progress, body to somebody who shows it."""

    def __init__(self, progress: Progress | None) -> None:
        self.count = 0
        self._expected = 0
        self._progress = progress

    def add(self, count: int) -> None:
        """So many more bytes have progress."""
        self.count += count
        if self._progress is not None and count:
            self._progress(count, 0)

    def expect(self, total: int) -> None:
        """So many bytes are to move in all, 0 where nobody knows."""
        if self._progress is not None and total != self._expected:
            self._progress(0, total - self._expected)
        self._expected = total

    def rewind(self) -> None:
        """It starts from the beginning."""
        self.add(-self.count)
        self.expect(0)


class Download:
    """What has come of `target` so far, in `file`. `limit` is the most bytes that are written."""

    def __init__(self, target: httpx.URL, file: IO[bytes], progress: ByteProgress, *, limit: int, now: Now) -> None:
        self.target = target
        self.progress = progress
        self._file = file
        self._limit = limit
        self._now = now
        self._what = f"download from {target.host}"
        self._etag = ""
        self._total: int | None = None

    def resume(self, client: httpx.Client) -> None:
        """Ask for what is missing and write it.

        Raises Unreachable where it broke again, and Malformed where it is longer than the limit, or is packed in a way
        that was not asked for.
        """
        headers: dict[str, str] = {}
        if self.progress.count and self._etag:
            # If-Range: should the file have changed since, the whole new one comes instead of a mixture.
            headers = {"Range": f"bytes={self.progress.count}-", "If-Range": self._etag}
        with map_httpx_errors(self._what), client.stream("GET", self.target, headers=headers) as response:
            for piece in self._accept(response, asked_range=bool(headers)):
                if self.progress.count + len(piece) > self._limit:
                    raise self._file_too_long()
                self._file.write(piece)
                self.progress.add(len(piece))
        if self._total is not None and self.progress.count != self._total:
            got, total = self.progress.count, self._total
            if got > total:
                self._restart()
            raise Unreachable(f"{self._what}: {got} bytes came where {total} were announced")

    def _accept(self, response: httpx.Response, *, asked_range: bool) -> Iterator[bytes]:
        status = response.status_code
        if status == httpx.codes.OK:
            return self._whole(response)
        if status == httpx.codes.PARTIAL_CONTENT and asked_range:
            if self._continues(response):
                return response.iter_raw()
            self._restart()
            raise Unreachable(f"{self._what}: another range came than the one asked for")
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and asked_range:
            self._restart()
            raise Unreachable(f"{self._what}: the file is not what it was; it is fetched from the beginning")
        if response.is_success:
            # 204 or 206 unasked: taken for the file, it would be one without its answers.
            raise Malformed(f"{self._what}: {status} came where a whole file was asked for")
        body = read_start(response, MAX_ERROR_BODY)
        raise storage_error_from_response(status, response.headers, body, self._what, now=self._now)

    def _whole(self, response: httpx.Response) -> Iterator[bytes]:
        self._restart()
        encoding = _encoding(response)
        if encoding in _GZIP:
            # Offsets would be about other bytes than those on disk, so this one can't go on by range.
            return _unpacked(response.iter_raw(), self._what)
        if encoding not in _PLAIN:
            raise Malformed(f"{self._what}: the file comes in an encoding that was not asked for")
        etag = response.headers.get("etag", "")
        self._etag = etag if etag.startswith('"') else ""  # a weak one (W/) can't vouch for bytes
        self._total = _length(response.headers.get("content-length"))
        if self._total is not None and self._total > self._limit:
            raise self._file_too_long()
        self.progress.expect(self._total or 0)
        return response.iter_raw()

    def _continues(self, response: httpx.Response) -> bool:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        if found is None or int(found[1]) != self.progress.count or _encoding(response) not in _PLAIN:
            return False
        same = response.headers.get("etag", self._etag) == self._etag
        return same and (self._total is None or found[3] in {"*", str(self._total)})

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.progress.rewind()
        self._etag, self._total = "", None

    def _file_too_long(self) -> Malformed:
        return Malformed(f"{self._what}: the file is longer than {self._limit} bytes")


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("content-encoding", "")).strip().lower()


def _unpacked(packed: Iterator[bytes], what: str) -> Iterator[bytes]:
    """The bytes of a gzip file. Raises Unreachable where its end is missing, which httpx's own decoder passes over."""
    member = _member()
    begun = False
    try:
        for piece in packed:
            rest = piece
            while rest:
                begun = True
                if member.eof:  # a gzip file may be several, one after the other
                    member = _member()
                yield member.decompress(rest, PIECE)
                rest = member.unconsumed_tail or member.unused_data
        while not member.eof and (last := member.decompress(b"", PIECE)):
            yield last
    except zlib.error as exc:
        raise Malformed(f"{what}: the file is not the gzip it is said to be") from exc
    if begun and not member.eof:
        raise Unreachable(f"{what}: the file broke off")


def _member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _length(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 19 else None
