"""The services' lists of batches in one command: read when first wanted, and again where they are no longer new."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from runner.providers.protocol import BatchApi, RemoteBatch

RETENTION = timedelta(days=31)
"""How far back the service's list is read: results are kept for 30 days at most."""
OLD_ENOUGH = 10
"""Batches in a row that are older than that, after which no newer one is expected in the list."""
MAX_AGE = 10.0
"""Seconds for which a list is believed before anything goes out. Uploading one job's shards, or fetching what it has
answered, can take an hour, and another checkout may submit the next job meanwhile."""


class BatchListCache:
    """What each service lists, by batch id. What only looks reads a list once; apply believes it for `seconds`."""

    def __init__(self, now: Callable[[], datetime], seconds: float = math.inf) -> None:
        self._now = now
        self._seconds = seconds
        self._lists: dict[int, tuple[datetime, dict[str, RemoteBatch]]] = {}

    def of(self, api: BatchApi) -> dict[str, RemoteBatch]:
        """A service's batches; what is put into it stays there. Raises ProviderError."""
        read_at, listed = self._lists.get(id(api), (None, {}))
        now = self._now()
        if read_at is None or not 0 <= (now - read_at).total_seconds() < self._seconds:
            # One that was made here a moment ago may not show in the list yet.
            listed |= list_back(api, now)
            self._lists[id(api)] = now, listed
        return listed

    def forget(self) -> None:
        """Have all read again: it is not known how long it is since they were."""
        self._lists.clear()


def list_back(api: BatchApi, now: datetime) -> dict[str, RemoteBatch]:
    """The service's batches by id, newest first, back over the time results are kept. Raises ProviderError."""
    return {batch.batch_id: batch for batch in newest_first(api, now)}


def newest_first(api: BatchApi, now: datetime) -> Iterator[RemoteBatch]:
    """The service's batches back over the time results are kept, its pages read as they are asked for.

    Old ones end it only where the list has kept to its order, and are old beside the newest one too, by the service's
    own clock: one that is missed could be paid for again.
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
