"""Presigned URLs: uploads and downloads that need only the signature."""

from __future__ import annotations

import asyncio
import re
import time
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from runner.http_server import logger
from runner.service.config import ServiceConfig
from runner.service.db.batches import Batches
from runner.service.db.files import FileInUse, Files
from runner.service.db.storage import Storage, TooLarge
from runner.service.faults.corrupt_results import corrupted_copy, truncated_copy
from runner.service.faults.faults import Faults
from runner.service.http.middleware import HttpError, uuid_of
from runner.service.http.responses import has_results
from runner.service.http.signing import Signer
from runner.service.jobs.journal import ERRORS, OUTPUT

UPLOADS = "/uploads/"
DOWNLOADS = "/downloads/"

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


class Transfers:
    """Makes presigned URLs and serves them."""

    def __init__(self, config: ServiceConfig, files: Files, batches: Batches, storage: Storage, faults: Faults) -> None:
        self._config = config
        self._files = files
        self._batches = batches
        self._storage = storage
        self._faults = faults
        self._signer = Signer.of_folder(config.data)

    @property
    def secret(self) -> bytes:
        """Return the secret that signs everything of this data folder."""
        return self._signer.secret

    def upload_url(self, request: Request, file_id: str, expires: float, content_type: str) -> str:
        """Return a URL to PUT a file until `expires` (Unix seconds), with this content type."""
        path = f"{UPLOADS}{file_id}.jsonl"
        return f"{_base(request)}{path}?{self._signer.query('PUT', path, expires, content_type)}"

    def download_url(self, request: Request, file_id: str, expires: float) -> str:
        """Return a URL to GET a result file until `expires` (Unix seconds)."""
        path = f"{DOWNLOADS}{file_id}.jsonl"
        return f"{_base(request)}{path}?{self._signer.query('GET', path, expires)}"

    async def upload(self, request: Request) -> Response:
        """Handle PUT and HEAD of an upload URL."""
        file_id = self._checked(request, "PUT")
        file = self._files.get(file_id, time.time())
        if file is None:
            raise HttpError(404, "There is no such file.")
        if request.method == "HEAD":
            if file.blob is None:
                raise HttpError(404, "Nothing was uploaded to this file yet.")
            return Response(headers={"content-length": str(file.bytes), "etag": f'"{file.digest}"'})
        limit = self._config.max_upload_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            raise HttpError(413, f"A file may hold at most {limit} bytes.")
        try:
            stored = await self._storage.receive(request.stream(), limit)
        except TooLarge as error:
            raise HttpError(413, f"A file may hold at most {limit} bytes.") from error
        if file.declared_bytes is not None and stored.size != file.declared_bytes:
            self._storage.drop_blob(stored.blob)
            raise HttpError(400, f"The file was announced with {file.declared_bytes} bytes, but {stored.size} came.")
        try:
            replaced = self._files.set_upload(file_id, stored.blob, stored.size, stored.digest)
        except FileInUse as error:
            self._storage.drop_blob(stored.blob)
            raise HttpError(409, "A job was created from this file; its content can't be replaced.") from error
        if replaced:
            self._storage.drop_blob(replaced)
        logger.info("file.uploaded", file=file_id, bytes=stored.size)
        return Response(headers={"etag": f'"{stored.digest}"'})

    async def download(self, request: Request) -> Response:
        """Handle GET and HEAD of a result file or a range."""
        file_id = self._checked(request, "GET")
        batch = self._batches.by_result_file(file_id)
        if batch is None or not has_results(batch):
            raise HttpError(404, "There is no such file, or it was deleted at the end of its time.")
        path = self._storage.job(batch.id) / (OUTPUT if file_id == batch.output_file_id else ERRORS)
        # A result file never changes once its id exists.
        etag = f'"{file_id}"'
        if batch.faults:
            path = await asyncio.to_thread(corrupted_copy, path, batch.active_faults, batch.id)
        if request.method == "GET" and self._faults.draw("cut-results") is not None:
            path, etag = await asyncio.to_thread(truncated_copy, path), f'"{file_id}-cut"'
        size = path.stat().st_size
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        _check_range(request, size)
        headers = {"etag": etag, "content-disposition": f'attachment; filename="{file_id}.jsonl"'}
        return _Download(path, media_type="application/jsonl", headers=headers)

    def _checked(self, request: Request, method: str) -> str:
        """Return a signed request's file id. HEAD may use any signed method."""
        content_type = request.headers.get("content-type", "")
        if not self._signer.allows(method, request.url.path, request.query_params, content_type, time.time()):
            raise HttpError(403, "The URL's signature does not match this request, or the URL has expired.")
        file_id = uuid_of(request.path_params["file_id"])
        if file_id is None:
            raise HttpError(404, "There is no such file.")
        return file_id


class _Download(FileResponse):
    """A file response with chunks large enough for a thread each."""

    chunk_size: ClassVar[int] = 1 << 20  # type: ignore[misc]


def _check_range(request: Request, size: int) -> None:
    """Drop a Range header unless it is a single byte range. Raises HttpError (416)."""
    text = request.headers.get("range")
    if text is None:
        return
    match = _RANGE.fullmatch(text)
    first, last = (match[1], match[2]) if match else (None, None)
    if match is None or (first and last and int(first) > int(last)):
        request.scope["headers"] = [(name, value) for name, value in request.scope["headers"] if name != b"range"]
    elif (first and int(first) >= size) or match[3] == "0":
        raise HttpError(416, f"The file has {size} bytes.")


def _base(request: Request) -> str:
    """Return the client's base URL. The middleware has checked the Host header."""
    return f"{request.url.scheme}://{request.headers['host']}"
