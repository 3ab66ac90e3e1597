"""Uploads and downloads at presigned URLs, which come from the network.

This module knows no key. URLs must be https, because they carry prompts and answers; loopback may use http with
loopback. A remote API can't direct transfers to this machine or to link-local addresses, where clouds keep credentials.
URLs with a user or password, which would become an Authorization header, are refused. Private networks are allowed:
they may hold a gateway's storage.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

import httpx

from runner.errors import ApiError, Malformed, ProviderError, StoreError, Unauthorized
from runner.jobspec.trust import is_loopback
from runner.providers.download import ByteProgress, Download
from runner.providers.http import MAX_ERROR_BODY, USUAL, Limits, Now, new_client, read_start
from runner.providers.http_errors import map_httpx_errors, storage_error_from_response
from runner.providers.protocol import Progress, Renew
from runner.providers.retry import RetryPolicy

CHUNK = 1 << 18
"""Bytes read from disk at once. Larger chunks were not faster on loopback."""
MAX_URL = 16_384
"""Characters of a presigned URL; those with a session token have some thousand."""
MAX_TRIES = 60
"""Attempts of one transfer in total."""
MAX_IDLE_RENEWALS = 2
"""Fresh URLs for one download in a row without progress."""
URL_TTL = 600.0
"""Assumed lifetime of an upload URL in seconds. The guide gives 10 to 15 minutes."""
STALE = 3_600.0
"""Seconds after which a partial download belongs to a dead process."""


class Storage:
    """One API's transfers, for all threads. `local`: the API is on loopback."""

    def __init__(self, *, local: bool, retry: RetryPolicy, now: Now = time.time, limits: Limits = USUAL) -> None:
        self._local = local
        self._limits = limits
        self._retry = retry
        self._now = now
        self._clients: dict[tuple[str, bool], httpx.Client] = {}
        self._guard = threading.Lock()
        _hide_queries()

    def upload(self, url: str, path: Path, until: datetime | None, progress: Progress | None = None) -> None:
        """PUT the file to `url`. Retry until the URL expires.

        Raises Unauthorized for an invalid or expired URL, StoreError if unreadable, Rejected if too large.
        """
        target = validate_url(url, local=self._local)
        start = self._now()
        window = until.timestamp() - start if until is not None else URL_TTL
        tried, waited = 0, 0.0
        while True:
            tried += 1
            sent = ByteProgress(progress)
            try:
                return self._put(target, path, sent)
            except ProviderError as error:
                sent.rewind()
                seconds = self._pause(error, tried)
                if seconds is None:
                    raise
                # This machine's clock may be wrong, so make a few attempts in any case.
                elapsed = max(waited, self._now() - start) + seconds
                if (tried >= self._retry.tries and elapsed >= window) or tried >= MAX_TRIES:
                    raise Unauthorized(
                        f"{error.message}; the upload URL expired after {tried} tries",
                        status=httpx.codes.FORBIDDEN,
                        error_id="url_expired",
                        hint="run the command again for a new upload URL; if it expires again, check the network",
                    ) from error
                waited += seconds
                self._retry.log_and_sleep("upload.retried", error, tried, seconds)

    def download(self, url: str, path: Path, progress: Progress | None = None, renew: Renew | None = None) -> None:
        """GET `url` into a temporary file, sync it and rename it to `path`.

        A break resumes by ETag and range, else restarts. Raises NotFound, Unauthorized without another URL, StoreError.
        """
        target = validate_url(url, local=self._local)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            _clear(path)
            with part.open("xb") as file:
                self._fetch(
                    Download(target, file, ByteProgress(progress), limit=self._limits.file, now=self._now), renew
                )
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as exc:
            raise StoreError(f"cannot write {path}: {exc.strerror or exc}", code="BS411") from exc
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def _pause(self, error: ProviderError, tried: int) -> float | None:
        """Return the delay before an upload is retried, if that can help.

        The guide asks for the same URL until it expires. An unexplained refusal is retried like an API call.
        """
        seconds = self._retry.delay(error, tried)
        if seconds is None and _worth_retrying(error) and tried < self._retry.tries:
            return self._retry.backoff(tried)
        return seconds

    def close(self) -> None:
        """Close the connections."""
        with self._guard:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, target: httpx.URL) -> httpx.Client:
        kind = (target.scheme, is_loopback(target.host))
        with self._guard:
            if kind not in self._clients:
                limits = self._limits
                self._clients[kind] = new_client(target, read_timeout=limits.transfer_timeout, connect=limits.connect)
            return self._clients[kind]

    def _put(self, target: httpx.URL, path: Path, sent: ByteProgress) -> None:
        what = f"upload to {target.host}"
        try:
            file = path.open("rb")
        except OSError as exc:
            raise StoreError(f"cannot read {path}: {exc.strerror or exc}", code="BS411") from exc
        with file:
            size = os.fstat(file.fileno()).st_size
            # Storages refuse chunked uploads to presigned URLs, so announce the length.
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
            with (
                map_httpx_errors(what),
                self._client(target).stream(
                    "PUT", target, content=_pieces(file, size, path, sent), headers=headers
                ) as response,
            ):
                body = read_start(response, MAX_ERROR_BODY)
        if not response.is_success:
            raise storage_error_from_response(response.status_code, response.headers, body, what, now=self._now)

    def _fetch(self, download: Download, renew: Renew | None) -> None:
        tried, idle, renewed = 0, 0, 0
        while True:
            before = download.progress.count
            try:
                return download.resume(self._client(download.target))
            except Unauthorized:
                # A URL lasts some minutes; a large file over a slow connection takes longer.
                renewed = 1 if download.progress.count > before else renewed + 1
                if renew is None or renewed > MAX_IDLE_RENEWALS:
                    raise
                download.target = validate_url(renew(), local=self._local)
            except ProviderError as error:
                tried += 1
                idle = 1 if download.progress.count > before else idle + 1
                seconds = self._retry.next_delay(error, idle) if tried < MAX_TRIES else None
                if seconds is None:
                    raise
                self._retry.log_and_sleep("download.retried", error, tried, seconds)


def validate_url(url: str, *, local: bool) -> httpx.URL:
    """Return `url` if transfers may use it.

    Raises Malformed, without the URL.
    """
    try:
        target = httpx.URL(url) if len(url) <= MAX_URL else None
    except httpx.InvalidURL:
        target = None
    if target is None or not target.host or target.scheme not in {"http", "https"}:
        raise Malformed("the service gave a presigned URL that is not an http(s) URL")
    if target.userinfo:
        raise Malformed("the service gave a presigned URL that contains a user name")
    loopback = is_loopback(target.host)
    if target.scheme == "http" and not (loopback and local):
        raise Malformed(f"the service gave a presigned URL for {target.host} that is not https")
    if not local and _is_special(target.host):
        raise Malformed(f"the service gave a presigned URL that leads to {target.host}")
    return target


def _is_special(host: str) -> bool:
    if host.rstrip(".").endswith("localhost"):
        return True
    address = _address(host.strip("[]"))
    if address is None:
        return False
    return address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the host's address, also as `2130706433` or `0x7f.1`."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, ValueError):
            return None
    return getattr(address, "ipv4_mapped", None) or address


def _pieces(file: IO[bytes], size: int, path: Path, sent: ByteProgress) -> Iterator[bytes]:
    remaining = size
    while remaining:
        try:
            piece = file.read(min(CHUNK, remaining))
        except OSError as exc:
            raise StoreError(f"cannot read {path}: {exc.strerror or exc}", code="BS411") from exc
        if not piece:
            break
        remaining -= len(piece)
        yield piece
        sent.add(len(piece))
    if remaining or os.fstat(file.fileno()).st_size != size:
        raise StoreError(f"{path} changed during its upload")


def _worth_retrying(error: ProviderError) -> bool:
    if not isinstance(error, ApiError) or isinstance(error, Unauthorized) or error.status < httpx.codes.BAD_REQUEST:
        return False
    return error.status != httpx.codes.REQUEST_ENTITY_TOO_LARGE and error.error_id != "EntityTooLarge"


def _clear(path: Path) -> None:
    for old in path.parent.glob(f".{_literal(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - old.stat().st_mtime > STALE:
                old.unlink()


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


class _NoQuery(logging.Filter):
    """Removes queries from logged URLs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(arg.copy_with(query=None) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


def _hide_queries() -> None:
    logger = logging.getLogger("httpx")
    if not any(isinstance(known, _NoQuery) for known in logger.filters):
        logger.addFilter(_NoQuery())
