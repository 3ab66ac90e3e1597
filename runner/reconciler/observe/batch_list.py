"""The services' lists of batches in one command: read when first wanted, and again where they are no longer new."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

from runner.providers.protocol import BatchApi, RemoteBatch
from runner.reconciler.observe.batches import list_back

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
