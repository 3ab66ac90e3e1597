"""Waiting for batches: one look at the list for all of them, from a second to a minute apart. Holds no lock."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.errors import NotFound, ProviderError, RateLimited, ServerError, Unauthorized
from runner.executor.context import Context
from runner.providers.api import BatchApi, RemoteBatch

SHORTEST = {"local": 0.2, "digitalocean": 2.0}
"""Seconds between the first looks, by kind of provider; the local service has no limits to keep."""
LONGEST = 60.0
SILENCE = 6 * 3600.0
"""Seconds for which a service that does not answer is waited for where there is more to do than to look."""
ASKED = 3600.0
"""Seconds that a service may ask for between two looks; more is taken for a mistake of its own."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Batches of one job at one service. `settled` is (done, failed, total) requests of the job's other batches."""

    address: str
    kind: str
    api: BatchApi
    batches: frozenset[str]


class Waiting:
    """The wait of one command.

    Looks grow apart with the time since it began, so that their number grows with the logarithm of that time and not
    with the number of batches that end.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._started = context.now()
        self._silent = False
        self._silent_since: datetime | None = None

    def service_is_silent(self, reason: str, deadline: datetime | None) -> bool:
        """Wait a little for a service that stopped answering while work was done. False where it took too long."""
        now = self._context.now()
        since = self._silent_since or now
        lasted = (now - since).total_seconds()
        if lasted > SILENCE or (deadline is not None and now >= deadline):
            return False
        if self._silent_since is None:
            self._context.watcher.event("service.silent", reason=reason)
        self._silent_since = since
        self._context.sleep(min(max(lasted / 10, 1.0), LONGEST))
        return True

    def until_one_ends(self, jobs: Sequence[Awaited], deadline: datetime | None) -> bool:
        """Wait until a batch of `jobs` has ended. False where the deadline passed first.

        A service that can't be reached is waited out and told of once. Raises Unauthorized: that does not mend itself.
        """
        shortest = min(SHORTEST[job.kind] for job in jobs)
        while True:
            pause = 0.0
            try:
                if _look(self._context, jobs):
                    return True
                self._silent, self._silent_since = False, None
            except Unauthorized:
                raise
            except ProviderError as error:
                if isinstance(error, RateLimited | ServerError):
                    pause = min(error.retry_after or 0.0, ASKED)
                if isinstance(error, RateLimited):
                    pause = pause or LONGEST
                elif not self._silent:
                    self._context.watcher.event("service.silent", reason=error.message)
                    self._silent = True
            now = self._context.now()
            if deadline is not None and now >= deadline:
                return False
            # A tenth of what was waited already: quick for short batches, a minute for long ones.
            elapsed = (now - self._started).total_seconds()
            usual = min(max(elapsed / 10, shortest), LONGEST)
            jitter = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            pause = max(usual * jitter, pause * max(jitter, 1.0))
            if deadline is not None:
                pause = min(pause, max((deadline - now).total_seconds(), 0.05))
            self._context.sleep(pause)


def _look(context: Context, jobs: Sequence[Awaited]) -> bool:
    ended = False
    seen: dict[int, Mapping[str, RemoteBatch]] = {}
    for job in jobs:
        if id(job.api) not in seen:
            everyone = frozenset().union(*(other.batches for other in jobs if other.api is job.api))
            seen[id(job.api)] = _find(job.api, everyone)
        found = [seen[id(job.api)][batch] for batch in sorted(job.batches) if batch in seen[id(job.api)]]
        done = sum(batch.counts.completed + batch.counts.failed for batch in found)
        failed = sum(batch.counts.failed for batch in found)
        total = sum(batch.counts.total for batch in found)
        states = ", ".join(sorted({batch.status for batch in found}))
        context.watcher.progress(f"answers {job.address} ({states})", done, total, failed)
        ended |= len(found) < len(job.batches) or any(batch.ended for batch in found)
    return ended


def _find(api: BatchApi, wanted: frozenset[str]) -> dict[str, RemoteBatch]:
    """The wanted batches, from the list; its pages are read only as far as needed."""
    found: dict[str, RemoteBatch] = {}
    for batch in api.list_batches():
        if batch.batch_id in wanted:
            found[batch.batch_id] = batch
            if len(found) == len(wanted):
                return found
    for missing in wanted - set(found):
        try:
            found[missing] = api.get_batch(missing)
        except NotFound:
            continue
    return found
