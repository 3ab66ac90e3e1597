"""API operations of the provider and `runner.client`."""

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
"""Batches per page, the service's maximum (OpenAPI description, `limit`)."""
MAX_PAGES = 10_000
"""Pages of one list: a million batches, more than an account can make in the 30 days they are kept."""
MAX_EMPTY_PAGES = 10
"""Pages in a row without a new batch. A service that filters after paging may send some."""


def get_batch(http: Http, batch_id: str) -> Any:
    """Return a batch. Raises NotFound."""
    return http.get(_path(batch_id))


def results(http: Http, batch_id: str) -> Any:
    """Return where results are. Raises NotReady, NotFound."""
    return http.get(f"{_path(batch_id)}/results")


def cancel_batch(http: Http, batch_id: str) -> Any:
    """Request cancellation. Raises Conflict."""
    lost: list[ProviderError] = []
    try:
        return http.post(f"{_path(batch_id)}/cancel", on_lost=lost.append)
    except Conflict:
        # An earlier attempt with a lost response may have succeeded.
        answer = get_batch(http, batch_id) if lost else None
        if answer is None or wire.read_batch(answer).status not in {"cancelling", "cancelled"}:
            raise
        return answer


def iter_batches(http: Http, status: str = "") -> Iterator[wire.Entry]:
    """Yield all batches, newest first. Raises Malformed if pages form a cycle."""
    seen: set[str] = set()
    cursors: set[str] = set()
    params = {"limit": str(PAGE), **({"status": status} if status else {})}
    empty_pages = 0
    for _ in range(MAX_PAGES):
        page = _page(http, params)
        new = [entry for entry in page.entries if entry.batch.batch_id not in seen]
        seen.update(entry.batch.batch_id for entry in new)
        yield from new
        # Without a statement about further pages, read on until a page has nothing new.
        if page.cursor is None or not (page.certain or new):
            return
        empty_pages = 0 if new else empty_pages + 1
        if page.cursor in cursors or empty_pages == MAX_EMPTY_PAGES:
            raise Malformed(f"the list of batches at {http.base_url} repeats its pages")
        cursors.add(page.cursor)
        params["after"] = page.cursor
    raise Malformed(f"the list of batches at {http.base_url} does not end")


def _page(http: Http, params: dict[str, str]) -> wire.Page:
    """Return one page, a shorter one if it is too long.

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
