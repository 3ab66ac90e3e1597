"""DigitalOcean's batch API.

Source: the batch inference guide (27 Apr 2026) and the public OpenAPI description (Aug 2026).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from runner.errors import Malformed, Unreachable
from runner.providers import endpoints, wire
from runner.providers.http import USUAL, Http, Limits, Now
from runner.providers.presigned import Storage
from runner.providers.protocol import BatchApi, CreateRequest, FileIntent, Progress, RemoteBatch, Renew, ResultUrls
from runner.providers.retry import RetryPolicy, Sleep


class DigitalOcean(BatchApi):
    """One account at one base URL, for all threads.

    Only the base URL receives `key`; empty sends none. Retries Unreachable, 5xx and 429, except in `create_batch`.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        sleep: Sleep = time.sleep,
        now: Now = time.time,
        retry: RetryPolicy | None = None,
        limits: Limits = USUAL,
        key_hint: str = "",
    ) -> None:
        retry = retry or RetryPolicy(sleep=sleep)
        self._http = Http(base_url, key, retry=retry, now=now, limits=limits, key_hint=key_hint)
        self._storage = Storage(local=self._http.loopback, retry=retry, now=now, limits=limits)

    def __repr__(self) -> str:
        return f"DigitalOcean({self._http.base_url!r})"

    def create_file(self, name: str, size: int) -> FileIntent:
        """Request an upload URL. `name` must end in `.jsonl`."""
        return wire.read_intent(self._http.post(endpoints.FILES, {"file_name": name, "file_size_in_bytes": size}))

    def upload(self, intent: FileIntent, path: Path, progress: Progress | None = None) -> None:
        """Stream a file. Retry until the URL expires."""
        self._storage.upload(intent.upload_url, path, intent.expires_at, progress)

    def create_batch(self, request: CreateRequest) -> RemoteBatch:
        """Create a batch; sent exactly once.

        After Unreachable or ServerError the batch may exist. An unreadable success is Unreachable too.
        """
        hide = (request.webhook[1],) if request.webhook else ()
        try:
            return wire.read_batch(self._http.post_once(endpoints.BATCHES, wire.create_body(request), hide=hide))
        except Malformed as exc:
            raise Unreachable(
                f"the response to the create request can't be parsed: {exc.message}",
                hint="the batch may exist; look for it in the list of batches",
            ) from exc

    def get_batch(self, batch_id: str) -> RemoteBatch:
        """Return a batch."""
        return wire.read_batch(endpoints.get_batch(self._http, batch_id))

    def list_batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches."""
        for entry in endpoints.iter_batches(self._http):
            yield entry.batch

    def results(self, batch_id: str) -> ResultUrls:
        """Return fresh URLs."""
        return wire.read_results(endpoints.results(self._http, batch_id))

    def download(self, url: str, path: Path, progress: Progress | None = None, renew: Renew | None = None) -> None:
        """Stream a result file."""
        self._storage.download(url, path, progress, renew)

    def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Request cancellation."""
        return wire.read_batch(endpoints.cancel_batch(self._http, batch_id))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._storage.close()
