"""The services' lists of batches, cached for one command."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from runner.providers.protocol import BatchApi, RemoteBatch

RETENTION = timedelta(days=31)
"""How far back to read the list. Results are kept for 30 days at most."""
OLD_ENOUGH = 10
"""Batches in a row older than that, after which the list has no newer one."""
MAX_AGE = 10.0
"""Seconds for which apply trusts a list. A transfer can take an hour, and another checkout may submit meanwhile."""


class BatchListCache:
    """Services' lists, trusted for `seconds` by apply."""

    def __init__(self, now: Callable[[], datetime], seconds: float = math.inf) -> None:
        self._now = now
        self._seconds = seconds
        self._lists: dict[int, tuple[datetime, dict[str, RemoteBatch]]] = {}

    def of(self, api: BatchApi) -> dict[str, RemoteBatch]:
        """Return batches by id. Those that the caller adds stay. Raises ProviderError."""
        read_at, listed = self._lists.get(id(api), (None, {}))
        now = self._now()
        if read_at is None or not 0 <= (now - read_at).total_seconds() < self._seconds:
            # Keep batches made here a moment ago: the list may not show them yet.
            listed |= list_back(api, now)
            self._lists[id(api)] = now, listed
        return listed

    def forget(self) -> None:
        """Read all lists again when needed."""
        self._lists.clear()


def list_back(api: BatchApi, now: datetime) -> dict[str, RemoteBatch]:
    """Return batches by id, newest first, within retention. Raises ProviderError."""
    return {batch.batch_id: batch for batch in newest_first(api, now)}


def newest_first(api: BatchApi, now: datetime) -> Iterator[RemoteBatch]:
    """Yield batches within retention. Read pages only as needed.

    Old batches end an ordered listing, if they are old compared with the newest one by the service's clock. A missed
    batch could be paid for twice.
    """
    ordered, before = True, datetime.max.replace(tzinfo=UTC)
    newest = datetime.min.replace(tzinfo=UTC)
    old = 0
    for batch in api.list_batches():
        made = batch.created_at or before
        ordered, before, newest = ordered and made <= before, made, max(newest, made)
        if made >= min(now, newest) - RETENTION:
            old = 0
            yield batch
        elif (old := old + 1) >= OLD_ENOUGH and ordered:
            return
