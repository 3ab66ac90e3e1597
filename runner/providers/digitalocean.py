"""DigitalOcean's batch API, and every service that speaks it: the embedded one, a gateway, a test.

Source of all paths and fields: the batch inference guide (27 Apr 2026) and the public OpenAPI description (Aug 2026).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from runner.errors import Conflict, Malformed, NotFound, ProviderError
from runner.providers import wire
from runner.providers.api import BatchApi, FileIntent, Order, Progress, RemoteBatch, ResultUrls
from runner.providers.http import Http, Now
from runner.providers.patience import Patience, Sleep
from runner.providers.storage import Storage

PAGE = 100
"""Batches asked for at once; the most the service gives (OpenAPI description, `limit`)."""
MAX_PAGES = 10_000
"""Pages of one list: a million batches, more than 24 h windows and 30 days of retention can hold."""


class DigitalOcean(BatchApi):
    """One account at one base URL.

    `key` is sent as bearer token to the base URL only; whether it may go there is decided before
    (`runner.spec.trust`). Empty sends none. `sleep` waits between tries and may raise to stop them; what it raises goes
    through. Threads may share it, for parallel transfers.

    Reads, file intents and cancels are tried again after Unreachable, 5xx and 429; `create_batch` never is.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        sleep: Sleep = time.sleep,
        now: Now = time.time,
        patience: Patience | None = None,
    ) -> None:
        patience = patience or Patience(sleep=sleep)
        self._http = Http(base_url, key, patience=patience, now=now)
        self._storage = Storage(local=self._http.loopback, patience=patience, now=now)

    def __repr__(self) -> str:
        return f"DigitalOcean({self._http.base_url!r})"

    def create_file(self, name: str, size: int) -> FileIntent:
        """Ask for a place to upload `size` bytes. `name` must end in `.jsonl`."""
        return wire.read_intent(self._http.post("/v1/batches/files", {"file_name": name, "file_size_in_bytes": size}))

    def upload(self, intent: FileIntent, path: Path, progress: Progress | None = None) -> None:
        """Stream a file to the intent's URL, again after a passing trouble until it expires.

        Raises Unauthorized (403) where the URL is no longer good: make a new intent. Where a broken upload starts
        again, `progress` gets a negative number.
        """
        self._storage.upload(intent.upload_url, path, intent.expires_at, progress)

    def create_batch(self, order: Order) -> RemoteBatch:
        """Create a batch; sent exactly once.

        After Unreachable, ServerError or Malformed the batch may exist: find out by listing.
        """
        hide = (order.webhook[1],) if order.webhook else ()
        return wire.read_batch(self._http.post_once("/v1/batches", wire.order_body(order), hide=hide))

    def get_batch(self, batch_id: str) -> RemoteBatch:
        """The batch as it is now. Raises NotFound."""
        return wire.read_batch(self._http.get(_path(batch_id)))

    def list_batches(self) -> Iterator[RemoteBatch]:
        """All batches of the account, newest first; one request for each 100, as they are taken.

        Raises Malformed where the pages go in circles.
        """
        seen: set[str] = set()
        cursors: set[str] = set()
        params = {"limit": str(PAGE)}
        for _ in range(MAX_PAGES):
            page = wire.read_page(self._http.get("/v1/batches", params))
            new = [batch for batch in page.batches if batch.batch_id not in seen]
            seen.update(batch.batch_id for batch in new)
            yield from new
            # A service that does not say whether there is more is asked until nothing new comes.
            if page.cursor is None or not (page.certain or new):
                return
            if page.cursor in cursors:
                raise Malformed(f"the list of batches at {self._http.base_url} goes in circles")
            cursors.add(page.cursor)
            params["after"] = page.cursor
        raise Malformed(f"the list of batches at {self._http.base_url} does not end")

    def results(self, batch_id: str) -> ResultUrls:
        """Fresh download addresses. Raises NotReady before there are any, NotFound when they are gone."""
        return wire.read_results(self._http.get(f"{_path(batch_id)}/results"))

    def download(self, url: str, path: Path, progress: Progress | None = None) -> None:
        """Stream a result file to `path`, written beside and renamed, going on by range where a connection broke.

        Raises NotFound where the file is gone, Unauthorized where the URL has expired. Where it has to start from the
        beginning, `progress` gets a negative number.
        """
        self._storage.download(url, path, progress)

    def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Ask for cancellation. Raises Conflict on a batch that has ended or has not reached its upstream."""
        lost: list[ProviderError] = []
        try:
            return wire.read_batch(self._http.post(f"{_path(batch_id)}/cancel", on_lost=lost.append))
        except Conflict:
            # An earlier try whose answer was lost may have been the one that worked.
            batch = self.get_batch(batch_id) if lost else None
            if batch is None or batch.status not in {"cancelling", "cancelled"}:
                raise
            return batch

    def close(self) -> None:
        """Give back connections."""
        self._http.close()
        self._storage.close()


def _path(batch_id: str) -> str:
    if not wire.is_id(batch_id):
        raise NotFound(f"{batch_id[:60]!r} is not a batch id", status=404, code="not_found")
    return f"/v1/batches/{quote(batch_id, safe='')}"
