"""The operations of the API that both the provider and `runner.client` use, as the service's own JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from runner.errors import Conflict, Malformed, NotFound, ProviderError
from runner.providers import wire
from runner.providers.http import Http, TooLong

BATCHES = "/v1/batches"
FILES = "/v1/batches/files"
PAGE = 100
"""Batches asked for at once; the most the service gives (OpenAPI description, `limit`)."""
MAX_PAGES = 10_000
"""Pages of one list: a million batches, more than an account can have made within the 30 days they are kept."""
MAX_EMPTY_PAGES = 10
"""Pages in a row without a batch that was not there before. A service that filters after paging may have some."""


def get_batch(http: Http, batch_id: str) -> Any:
    """A batch as it is now. Raises NotFound."""
    return http.get(_path(batch_id))


def results(http: Http, batch_id: str) -> Any:
    """Where to download a batch's results. Raises NotReady, NotFound."""
    return http.get(f"{_path(batch_id)}/results")


def cancel_batch(http: Http, batch_id: str) -> Any:
    """The batch after a request for cancellation. Raises Conflict where it has ended or has no upstream yet."""
    lost: list[ProviderError] = []
    try:
        return http.post(f"{_path(batch_id)}/cancel", on_lost=lost.append)
    except Conflict:
        # An earlier try whose answer was lost may have been the one that worked.
        answer = get_batch(http, batch_id) if lost else None
        if answer is None or wire.read_batch(answer).status not in {"cancelling", "cancelled"}:
            raise
        return answer


def iter_batches(http: Http, status: str = "") -> Iterator[wire.Entry]:
    """All batches, newest first; one request for each 100, as they are taken. `status` leaves out all others.

    Raises Malformed where the pages go in circles.
    """
    seen: set[str] = set()
    cursors: set[str] = set()
    params = {"limit": str(PAGE), **({"status": status} if status else {})}
    empty_pages = 0
    for _ in range(MAX_PAGES):
        page = _page(http, params)
        new = [entry for entry in page.entries if entry.batch.batch_id not in seen]
        seen.update(entry.batch.batch_id for entry in new)
        yield from new
        # A service that does not say whether there is more is asked until nothing new comes.
        if page.cursor is None or not (page.certain or new):
            return
        empty_pages = 0 if new else empty_pages + 1
        if page.cursor in cursors or empty_pages == MAX_EMPTY_PAGES:
            raise Malformed(f"the list of batches at {http.base_url} goes in circles")
        cursors.add(page.cursor)
        params["after"] = page.cursor
    raise Malformed(f"the list of batches at {http.base_url} does not end")


def _page(http: Http, params: dict[str, str]) -> wire.Page:
    """One page. Where it is too long to be read, fewer batches are asked for, now and from then on.

    A failed batch may carry a reason for each of its 50,000 lines.
    """
    while True:
        try:
            return wire.read_page(http.get(BATCHES, params))
        except TooLong:
            limit = int(params["limit"])
            if limit == 1:
                raise
            params["limit"] = str(max(1, limit // 5))


def _path(batch_id: str) -> str:
    if not wire.is_id(batch_id):
        raise NotFound(f"{str(batch_id)[:60]!r} is not a batch id", status=404, error_id="not_found")
    return f"{BATCHES}/{quote(batch_id, safe='')}"
