"""One download to disk, over several connections if necessary.

Checks responses before it writes: a storage may send another range or file.
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
"""Most bytes that one decompression step returns, whatever the ratio."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_PLAIN = {"identity", ""}
_GZIP = {"gzip", "x-gzip"}


class ByteProgress:
    """Reports one file's moved bytes."""

    def __init__(self, progress: Progress | None) -> None:
        self.count = 0
        self._expected = 0
        self._progress = progress

    def add(self, count: int) -> None:
        """Count moved bytes; negative to take back."""
        self.count += count
        if self._progress is not None and count:
            self._progress(count, 0)

    def expect(self, total: int) -> None:
        """Report the total size; 0 if unknown."""
        if self._progress is not None and total != self._expected:
            self._progress(0, total - self._expected)
        self._expected = total

    def rewind(self) -> None:
        """Reset to the beginning."""
        self.add(-self.count)
        self.expect(0)


class Download:
    """One download of at most `limit` bytes."""

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
        """Request and write the missing bytes.

        Raises Unreachable if the transfer broke again, Malformed beyond the limit or for an encoding not requested.
        """
        headers: dict[str, str] = {}
        if self.progress.count and self._etag:
            # If-Range: if the file has changed, the storage sends the whole new file.
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
            raise Unreachable(f"{self._what}: received {got} bytes, but the storage announced {total}")

    def _accept(self, response: httpx.Response, *, asked_range: bool) -> Iterator[bytes]:
        status = response.status_code
        if status == httpx.codes.OK:
            return self._whole(response)
        if status == httpx.codes.PARTIAL_CONTENT and asked_range:
            if self._continues(response):
                return response.iter_raw()
            self._restart()
            raise Unreachable(f"{self._what}: the storage sent a different range than requested")
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and asked_range:
            self._restart()
            raise Unreachable(f"{self._what}: the file has changed; the download restarts")
        if response.is_success:
            # An unrequested 204 or 206 would be saved as a file without its answers.
            raise Malformed(f"{self._what}: the storage answered {status} to a request for the whole file")
        body = read_start(response, MAX_ERROR_BODY)
        raise storage_error_from_response(status, response.headers, body, self._what, now=self._now)

    def _whole(self, response: httpx.Response) -> Iterator[bytes]:
        self._restart()
        encoding = _encoding(response)
        if encoding in _GZIP:
            # Ranges would count compressed bytes, so this download can't resume.
            return _unpacked(response.iter_raw(), self._what)
        if encoding not in _PLAIN:
            raise Malformed(f"{self._what}: the file has an encoding that was not requested")
        etag = response.headers.get("etag", "")
        self._etag = etag if etag.startswith('"') else ""  # a weak ETag (W/) does not guarantee equal bytes
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
    """Decompress. Raises Unreachable without an end, which httpx ignores."""
    member = _member()
    begun = False
    try:
        for piece in packed:
            rest = piece
            while rest:
                begun = True
                if member.eof:  # a gzip file may have several members
                    member = _member()
                yield member.decompress(rest, PIECE)
                rest = member.unconsumed_tail or member.unused_data
        while not member.eof and (last := member.decompress(b"", PIECE)):
            yield last
    except zlib.error as exc:
        raise Malformed(f"{what}: the file is not valid gzip") from exc
    if begun and not member.eof:
        raise Unreachable(f"{what}: the gzip file is incomplete")


def _member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)


def _length(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 19 else None
