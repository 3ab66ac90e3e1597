"""The routes of the API and their handlers."""

from __future__ import annotations

import asyncio
import time

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from runner.http_server import logger
from runner.service.config import ServiceConfig
from runner.service.dashboard.dashboard import Dashboard, is_page
from runner.service.db.batches import CANCELLABLE, STATUSES, Batch, Batches, FileChanged, NewBatch
from runner.service.db.files import Files, InputFile
from runner.service.db.storage import Storage
from runner.service.faults.fault_middleware import FaultMiddleware
from runner.service.faults.faults import Faults
from runner.service.http.create_request import CreateRequest, address, first_line, parse_create_request
from runner.service.http.middleware import (
    Accounts,
    AuthMiddleware,
    HttpError,
    JsonResponse,
    Methods,
    read_json,
    uuid_of,
)
from runner.service.http.presigned import DOWNLOADS, UPLOADS, Transfers
from runner.service.http.rate_limit import Limiter
from runner.service.http.responses import batch_view, file_view, list_view, results_view
from runner.service.jobs.scheduler import Scheduler
from runner.service.webhooks.targets import Targets

DEFAULT_PAGE = 20
MAX_PAGE = 100


class BatchRoutes:
    """The six operations of the API."""

    def __init__(
        self,
        config: ServiceConfig,
        files: Files,
        batches: Batches,
        storage: Storage,
        *,
        transfers: Transfers,
        scheduler: Scheduler,
        faults: Faults,
        targets: Targets,
    ) -> None:
        self._config = config
        self._files = files
        self._batches = batches
        self._storage = storage
        self._transfers = transfers
        self._scheduler = scheduler
        self._faults = faults
        self._targets = targets

    async def create_file(self, request: Request) -> Response:
        """Handle POST /v1/batches/files: return an upload URL."""
        body = await read_json(request, self._config.max_json_bytes)
        name, size, content_type = body.get("file_name"), body.get("file_size_in_bytes"), body.get("content_type", "")
        if not isinstance(name, str) or len(name) <= len(".jsonl") or not name.lower().endswith(".jsonl"):
            raise HttpError(422, "file_name must end in .jsonl.")
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
            raise HttpError(422, "file_size_in_bytes must be a whole number.")
        if size is not None and size > self._config.max_upload_bytes:
            raise HttpError(413, f"A file may hold at most {self._config.max_upload_bytes} bytes.")
        if not isinstance(content_type, str) or not content_type.isprintable():
            raise HttpError(422, "content_type must be a text.")
        now = time.time()
        file = self._files.add(_account(request), name, size, now, self._config.lasting(self._config.file_ttl))
        expires = now + self._config.lasting(self._config.url_ttl)
        expired = self._faults.draw("expired-upload-url") is not None
        url = self._transfers.upload_url(request, file.id, now if expired else expires, content_type)
        return JsonResponse(file_view(file.id, url, expires), 201)

    async def create_batch(self, request: Request) -> Response:
        """Handle POST /v1/batches: create a job, or return the one with its request_id."""
        order = parse_create_request(await read_json(request, self._config.max_json_bytes), self._targets)
        account = _account(request)
        known = self._batches.by_request_id(account, order.request_id)
        if known is not None and known.file_id == order.file_id:
            return _accepted(_check_same_request(known, order, known.digest))
        file = self._uploaded(account, order.file_id)
        assert file.blob is not None
        assert file.digest is not None
        if known is not None:
            return _accepted(_check_same_request(known, order, file.digest))
        try:
            batch = self._batches.add(await self._new_batch(account, order, file))
        except (FileChanged, FileNotFoundError) as error:
            raise HttpError(409, "file_id: the file was uploaded again at this moment. Try again.") from error
        _check_same_request(batch, order, file.digest)
        self._scheduler.wake()
        logger.info("job.created", batch=batch.id, file=file.id, provider=batch.provider)
        return _accepted(batch)

    async def list_batches(self, request: Request) -> Response:
        """Handle GET /v1/batches: return a page of jobs, newest first."""
        account = _account(request)
        query = request.query_params
        limit = query.get("limit", str(DEFAULT_PAGE))
        if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= MAX_PAGE):
            raise HttpError(400, f"limit must be a whole number from 1 to {MAX_PAGE}.")
        status = query.get("status")
        if status is not None and status not in STATUSES:
            raise HttpError(400, f"status must be one of {', '.join(sorted(STATUSES))}.")
        before = None
        if "after" in query:
            before = self._find(query["after"], account, 400, "after must be the id of a batch.").seq
        found = self._batches.page(account, before=before, status=status, limit=int(limit) + 1)
        return JsonResponse(list_view(found[: int(limit)], has_more=len(found) > int(limit)))

    async def get_batch(self, request: Request) -> Response:
        """Handle GET /v1/batches/{id}."""
        return JsonResponse(batch_view(self._requested(request)))

    async def cancel_batch(self, request: Request) -> Response:
        """Handle POST /v1/batches/{id}/cancel: 409 if the job has ended or has not started."""
        batch = self._requested(request)
        if self._batches.step(batch.id, CANCELLABLE, "cancelling", time.time()):
            self._scheduler.cancel(batch.id)
            logger.info("job.cancelling", batch=batch.id)
        batch = self._requested(request)
        if batch.status != "cancelling":
            why = "has ended" if batch.ended else "was not submitted upstream yet; try again when it is in_progress"
            raise HttpError(409, f"The batch is {batch.status} and can't be cancelled: it {why}.")
        return JsonResponse(batch_view(batch))

    async def get_results(self, request: Request) -> Response:
        """Handle GET /v1/batches/{id}/results: return fresh URLs, or 412 until the end.

        The id may be a result file's: the vendor's client sends `batch.output_file_id`.
        """
        file_id = uuid_of(request.path_params["batch_id"])
        batch = self._batches.by_result_file(file_id) if file_id else None
        if batch is None or batch.account != _account(request):
            batch = self._requested(request)
        if not batch.ended:
            raise HttpError(412, f"Results are not yet available: the batch is {batch.status}.")
        now = time.time()
        kept = self._config.lasting(self._config.result_ttl)
        if batch.results_deleted or now >= (batch.ended_at or now) + kept or "results-gone" in batch.active_faults:
            raise HttpError(404, "The results were deleted at the end of their time.")
        expires = now + self._config.lasting(self._config.url_ttl)
        urls = [
            self._transfers.download_url(request, file_id, expires) if file_id else None
            for file_id in (batch.output_file_id, batch.error_file_id)
        ]
        return JsonResponse(results_view(batch, urls[0], urls[1], expires))

    def _requested(self, request: Request) -> Batch:
        return self._find(request.path_params["batch_id"], _account(request), 404, "There is no such batch.")

    def _find(self, text: str, account: str, status: int, message: str) -> Batch:
        batch_id = uuid_of(text)
        batch = self._batches.get(batch_id, account) if batch_id else None
        if batch is None:
            raise HttpError(status, message)
        return batch

    def _uploaded(self, account: str, file_id: str) -> InputFile:
        canonical = uuid_of(file_id)
        file = self._files.get(canonical, time.time()) if canonical else None
        if file is None or file.account != account:
            raise HttpError(404, "file_id: there is no such file, or it has expired.")
        if file.blob is None:
            raise HttpError(400, "file_id: nothing was uploaded to this file yet. PUT it to its upload_url first.")
        return file

    async def _new_batch(self, account: str, order: CreateRequest, file: InputFile) -> NewBatch:
        assert file.blob is not None
        assert file.digest is not None
        path = self._storage.blob(file.blob)
        first = await asyncio.to_thread(first_line, path, self._config.max_line_bytes)
        provider, endpoint = address(order, first)
        now = time.time()
        job_faults = self._faults.for_job()
        return NewBatch(
            account=account,
            request_id=order.request_id,
            file_id=file.id,
            blob=file.blob,
            digest=file.digest,
            provider=provider,
            endpoint=endpoint,
            model=first.model or order.model,
            default_model=order.model,
            parameters=orjson.dumps(order.parameters).decode(),
            metadata=orjson.dumps(order.metadata).decode() if order.metadata is not None else None,
            webhook=orjson.dumps(order.webhook).decode() if order.webhook else None,
            result_shape=self._config.result_shape,
            created_at=now,
            expires_at=now + self._config.lasting(self._config.completion_window),
            faults=orjson.dumps(job_faults).decode() if job_faults else None,
        )


def _check_same_request(batch: Batch, order: CreateRequest, digest: str) -> Batch:
    """Return an idempotency key's job if the create matches it. Raises HttpError (409)."""
    if batch.digest != digest:
        raise HttpError(409, "request_id was used before for a file with other content.")
    if order.endpoint not in {None, batch.endpoint}:
        raise HttpError(409, "request_id was used before with another endpoint.")
    if order.provider not in {None, batch.provider}:
        raise HttpError(409, "request_id was used before with another provider.")
    return batch


def _accepted(batch: Batch) -> Response:
    # Also for a known request_id: the vendor's client accepts only 201.
    return JsonResponse(batch_view(batch), 201)


def _account(request: Request) -> str:
    account: str = request.state.account
    return account


def build_app(
    api: BatchRoutes, transfers: Transfers, page: Dashboard, accounts: Accounts, config: ServiceConfig, faults: Faults
) -> ASGIApp:
    """Return the service as an ASGI application."""
    batch = "/v1/batches/{batch_id}"
    routes = [
        Route("/v1/batches/files", Methods(POST=api.create_file)),
        Route("/v1/batches", Methods(POST=api.create_batch, GET=api.list_batches)),
        Route(batch, Methods(GET=api.get_batch)),
        Route(f"{batch}/cancel", Methods(POST=api.cancel_batch)),
        Route(f"{batch}/results", Methods(GET=api.get_results)),
        Route(f"{UPLOADS}{{file_id}}.jsonl", Methods(PUT=transfers.upload, HEAD=transfers.upload)),
        Route(f"{DOWNLOADS}{{file_id}}.jsonl", Methods(GET=transfers.download)),
        *page.routes(),
    ]
    app: ASGIApp = Router(routes, redirect_slashes=False)
    if faults:
        app = FaultMiddleware(app, faults, uploads=UPLOADS, downloads=DOWNLOADS)
    limiter = Limiter(config.lasting_limits(config.rate_limits))
    return AuthMiddleware(app, accounts, limiter, free=(UPLOADS, DOWNLOADS), is_page=is_page, visitor=page.visitor)
