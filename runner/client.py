"""A client for the batch API, without specs: the vendor guide's `client.batches...`.

    from runner import Client

    client = Client(api_key=os.environ["MODEL_ACCESS_KEY"])
    upload = client.batches.files.create(file_name="prompts.jsonl")
    ...
    batch = client.batches.create(file_id=upload.file_id)

Answers are frozen; `raw` is the service's JSON object.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from runner.errors import Conflict, Malformed, ProviderError, RateLimited, ServerError, Unauthorized, Unreachable
from runner.jobspec.trust import KEY_NAMES, check_key_host, is_loopback
from runner.providers import endpoints, wire
from runner.providers.http import Http
from runner.providers.protocol import BatchError, Counts, RemoteBatch, Usage
from runner.providers.retry import RetryPolicy, Sleep

__all__ = ["Batch", "Batches", "Client", "Files", "ResultInfo", "UploadInfo"]

BASE_URL = "https://inference.do-ai.run"
"""DigitalOcean's inference service (guide, 27 Apr 2026)."""
BASE_URL_NAME = "BATCHSPEC_BASE_URL"
"""The environment variable that replaces a missing `base_url`."""
RECENT = 100
"""Newest batches to search after a create's answer was lost."""

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """PUT the file to `upload_url` before `expires_at`, without the access key."""

    file_id: str
    upload_url: str = field(repr=False)
    expires_at: datetime | None
    raw: Raw = field(repr=False, compare=False, hash=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch job. Times are in UTC; unknown texts are empty, other unknown values None.

    `ended_at` is when it completed, failed, expired or was cancelled.
    """

    id: str
    status: str
    model: str
    file_id: str
    provider: str
    endpoint: str
    completion_window: str
    request_counts: Counts
    usage: Usage | None
    errors: tuple[BatchError, ...]
    request_id: str
    metadata: Raw = field(hash=False)
    result_available: bool | None
    created_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    raw: Raw = field(repr=False, compare=False, hash=False)


@dataclass(frozen=True, slots=True)
class ResultInfo:
    """New result URLs, valid until `expires_at`; None if there is no file."""

    output_url: str | None = field(repr=False)
    error_url: str | None = field(repr=False)
    expires_at: datetime | None
    raw: Raw = field(repr=False, compare=False, hash=False)


class Client:
    """One account of the batch API. A context manager; threads may share it.

    `api_key` defaults to MODEL_ACCESS_KEY, DIGITALOCEAN_TOKEN or GRADIENT_API_KEY in the environment, `base_url` to
    BATCHSPEC_BASE_URL, else DigitalOcean. A key is sent only to DigitalOcean, this machine (which needs none), and
    hosts in BATCHSPEC_TRUST_HOSTS. `sleep` takes seconds.

    Raises TrustError if the host may not receive the key, Unauthorized without a key.
    """

    def __init__(self, api_key: str | None = None, *, base_url: str | None = None, sleep: Sleep = time.sleep) -> None:
        url = base_url or os.environ.get(BASE_URL_NAME) or BASE_URL
        key = api_key or next((os.environ[name] for name in KEY_NAMES if os.environ.get(name)), "")
        check_key_host(url, os.environ)
        if not key and not is_loopback(urlsplit(url).hostname or ""):
            raise Unauthorized(f"no API key for {url}", status=401, hint=f"pass api_key, or set {KEY_NAMES[0]}")
        retry = RetryPolicy(sleep=sleep)
        self._http = Http(url, key, retry=retry)
        self.batches = Batches(self._http, retry)

    def __repr__(self) -> str:
        return f"Client(base_url={self._http.base_url!r})"

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Files:
    """Input files: `client.batches.files`."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def create(self, *, file_name: str, file_size_in_bytes: int | None = None) -> UploadInfo:
        """Request a URL for a `.jsonl` file. Files are not billed.

        Raises Rejected for other names, and for sizes over the service's limit (200 MB).
        """
        body: dict[str, Any] = {"file_name": file_name}
        if file_size_in_bytes is not None:
            body["file_size_in_bytes"] = file_size_in_bytes
        answer = self._http.post(endpoints.FILES, body)
        intent = wire.read_intent(answer)
        return UploadInfo(intent.file_id, intent.upload_url, intent.expires_at, MappingProxyType(answer))


class Batches:
    """Batch jobs: `client.batches`. Methods raise `runner.errors.ProviderError`."""

    def __init__(self, http: Http, retry: RetryPolicy) -> None:
        self.files = Files(http)
        self._http = http
        self._retry = retry

    def create(
        self,
        *,
        file_id: str,
        completion_window: str = wire.WINDOW,
        model: str | None = None,
        parameters: Raw | None = None,
        webhook: Raw | None = None,
        provider: str | None = None,
        endpoint: str | None = None,
        request_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Batch:
        """Create a batch job from an uploaded file. None is not sent.

        `request_id` is the idempotency key, random by default: a create with a used key returns the job it made. After
        a lost answer, the client searches the list, then repeats the create with its key; it makes one job. To be safe
        across runs of a program, derive the same `request_id` in both.

        Raises Rejected, NotFound (no such file), Conflict (the key has another use). Raises Unreachable or ServerError
        if the outcome is unknown; a note on the error has the `request_id`.
        """
        key = request_id or str(uuid.uuid4())
        optional = {
            "model": model,
            "parameters": parameters,
            "webhook": webhook,
            "provider": provider,
            "endpoint": endpoint,
            "metadata": metadata,
        }
        body: dict[str, Any] = {"file_id": file_id, "completion_window": completion_window, "request_id": key}
        body |= {name: value for name, value in optional.items() if value is not None}
        try:
            return self._create(body, key)
        except (Unreachable, ServerError) as error:
            error.add_note(f"The batch may exist: look for the request_id {key} in batches.list().")
            raise

    def retrieve(self, batch_id: str) -> Batch:
        """Return the current job. Raises NotFound."""
        return _batch(endpoints.get_batch(self._http, batch_id))

    def results(self, batch_id: str) -> ResultInfo:
        """Return new download URLs. Raises NotReady, or NotFound when they are gone."""
        answer = endpoints.results(self._http, batch_id)
        urls = wire.read_results(answer)
        return ResultInfo(urls.output_url, urls.error_url, urls.expires_at, MappingProxyType(answer))

    def cancel(self, batch_id: str) -> Batch:
        """Ask for cancellation; completed requests are kept and billed.

        Raises Conflict if the job has ended, or is not submitted upstream yet.
        """
        return _batch(endpoints.cancel_batch(self._http, batch_id))

    def list(self, *, status: str | None = None) -> Iterator[Batch]:
        """Yield the account's jobs, newest first."""
        for entry in endpoints.iter_batches(self._http, status or ""):
            yield _as_batch(entry.batch, entry.raw)

    def _create(self, body: dict[str, Any], key: str) -> Batch:
        secret = (body.get("webhook") or {}).get("secret")
        hide = (secret,) if isinstance(secret, str) else ()
        lost = False
        tried = 0
        while True:
            tried += 1
            try:
                return self._create_once(body, hide)
            except Conflict:
                # A key that is busy with the create whose answer was lost.
                found = self._find(key) if lost else None
                if found is None:
                    raise
                return found
            except (Unreachable, ServerError, RateLimited) as error:
                lost = lost or not isinstance(error, RateLimited)
                seconds = self._retry.next_delay(error, tried)
                if seconds is None:
                    raise
                self._retry.log_and_sleep("create.retried", error, tried, seconds)
                found = self._find(key) if lost else None
                if found is not None:
                    return found

    def _create_once(self, body: dict[str, Any], hide: tuple[str, ...]) -> Batch:
        try:
            return _batch(self._http.post_once(endpoints.BATCHES, body, hide=hide))
        except Malformed as exc:
            raise Unreachable(f"cannot parse the answer to a create request: {exc.message}") from exc

    def _find(self, key: str) -> Batch | None:
        try:
            recent = islice(endpoints.iter_batches(self._http), RECENT)
            return next((_as_batch(e.batch, e.raw) for e in recent if e.batch.request_id == key), None)
        except ProviderError:
            return None


def _batch(answer: Any) -> Batch:
    return _as_batch(wire.read_batch(answer), answer)


def _as_batch(batch: RemoteBatch, raw: dict[str, Any]) -> Batch:
    available = raw.get("result_available")
    return Batch(
        id=batch.batch_id,
        status=batch.status,
        model=_text(raw.get("model")),
        file_id=batch.file_id,
        provider=batch.line_format,
        endpoint=batch.endpoint,
        completion_window=_text(raw.get("completion_window")),
        request_counts=batch.counts,
        usage=batch.usage,
        errors=batch.errors,
        request_id=batch.request_id,
        metadata=MappingProxyType(batch.metadata),
        result_available=available if isinstance(available, bool) else None,
        created_at=batch.created_at,
        ended_at=batch.ended_at,
        expires_at=batch.expires_at,
        raw=MappingProxyType(raw),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
