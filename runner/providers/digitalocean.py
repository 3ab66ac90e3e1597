"""DigitalOcean's batch API, and every service that speaks it: the embedded one, a gateway, a test.

Source of all paths and fields: the batch inference guide (27 Apr 2026) and the public OpenAPI description (Aug 2026).
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
    """One account at one base URL.

    `key` is sent as bearer token to the base URL only; whether it may go there is decided before
    (`runner.jobspec.trust`). Empty sends none. `sleep` waits between tries and may raise to stop them; what it
    raises goes
    through. `key_hint` says what to do where the key is refused. Threads may share it, for parallel transfers.

    Reads, file intents and cancels are tried again after Unreachable, 5xx and 429; `create_batch` never is.
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
        """Ask for a place to upload `size` bytes. `name` must end in `.jsonl`."""
        return wire.read_intent(self._http.post(endpoints.FILES, {"file_name": name, "file_size_in_bytes": size}))

    def upload(self, intent: FileIntent, path: Path, progress: Progress | None = None) -> None:
        """Stream a file to the intent's URL, again after a passing trouble until it expires.

        Raises Unauthorized where the URL is no longer good: the storage says so (403), or it broke until the URL
        expired. Make a new intent then. Where a broken upload starts again, `progress` gets a negative number.
        """
        self._storage.upload(intent.upload_url, path, intent.expires_at, progress)

    def create_batch(self, request: CreateRequest) -> RemoteBatch:
        """Create a batch; sent exactly once.

        After Unreachable or ServerError the batch may exist: find out by listing. An answer that says yes but can't be
        understood is a lost one, so it is Unreachable too.
        """
        hide = (request.webhook[1],) if request.webhook else ()
        try:
            return wire.read_batch(self._http.post_once(endpoints.BATCHES, wire.create_body(request), hide=hide))
        except Malformed as exc:
            raise Unreachable(
                f"the answer to a create can't be understood: {exc.message}", hint="look for the batch in the list"
            ) from exc

    def get_batch(self, batch_id: str) -> RemoteBatch:
        """The batch as it is now. Raises NotFound."""
        return wire.read_batch(endpoints.get_batch(self._http, batch_id))

    def list_batches(self) -> Iterator[RemoteBatch]:
        """All batches of the account, newest first; one request for each 100, as they are taken.

        Raises Malformed where the pages go in circles.
        """
        for entry in endpoints.iter_batches(self._http):
            yield entry.batch

    def results(self, batch_id: str) -> ResultUrls:
        """Fresh download addresses. Raises NotReady before there are any, NotFound when they are gone."""
        return wire.read_results(endpoints.results(self._http, batch_id))

    def download(self, url: str, path: Path, progress: Progress | None = None, renew: Renew | None = None) -> None:
        """Stream a result file to `path`, written beside and renamed, going on by range where a connection broke.

        Where the URL has expired it goes on with the one that `renew` gives. Raises NotFound where the file is gone,
        Unauthorized where the URL has expired and there is no other. Where it has to start from the
        beginning, `progress` gets a negative number.
        """
        self._storage.download(url, path, progress, renew)

    def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Ask for cancellation. Raises Conflict on a batch that has ended or has not reached its upstream."""
        return wire.read_batch(endpoints.cancel_batch(self._http, batch_id))

    def close(self) -> None:
        """Give back connections."""
        self._http.close()
        self._storage.close()
