"""Waiting for batches: one look at the list for all of them, from a second to a minute apart. Holds no lock."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.context import Context
from runner.errors import NotFound, ProviderError, RateLimited, ServerError, Unauthorized, Unreachable
from runner.providers.protocol import BatchApi, Counts, RemoteBatch
from runner.reconciler.observe.batch_list import newest_first
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW

MIN_INTERVAL = {"local": 0.2, "digitalocean": 2.0}
"""Seconds between the first looks, by kind of provider; the local service has no limits to keep."""
MAX_INTERVAL = 60.0
SILENT = "service.silent"
MAX_OUTAGE = 6 * 3600.0
"""Seconds for which a service that does not answer is waited for where there is more to do than to look."""
MAX_RETRY_AFTER = 3600.0
"""Seconds that a service may ask for between two looks; more is taken for a mistake of its own."""


@dataclass(frozen=True, slots=True)
class PollTarget:
    """Batches of one job at one service. After `wake` seconds the job goes on, whatever has ended."""

    address: str
    kind: str
    api: BatchApi
    batches: frozenset[str]
    wake: float = math.inf


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a job can't go on just now, and the seconds after which it may, 0 where nobody knows.

    `event` is what a person is told of it, once. `settles` says that it is over then, whatever happens.
    `code` is that of the error that it becomes where nobody waits.
    """

    job: str
    reason: str
    seconds: float = 0.0
    event: str = SILENT
    settles: bool = False
    code: str = Unreachable.code


class BlockedError(Exception):
    """A job can't go on just now. The machine's lock is given back while it waits."""

    def __init__(self, stall: Blocked) -> None:
        super().__init__(stall.reason)
        self.stall = stall


class Poller:
    """The wait of one command.

    Looks grow apart with the time it has lasted, so that their number grows with the logarithm of that time and not
    with the number of batches that end. Times are sums of what was slept: clocks jump, and laptops are closed.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._slept = 0.0
        self._stalled = 0.0
        self._told: set[tuple[str, str]] = set()
        self._missing: dict[str, float] = {}
        self._counts: dict[str, dict[str, Counts]] = {}

    def wait_before_retry(self, stalls: Sequence[Blocked], deadline: datetime | None) -> bool:
        """Wait a little before what can't go on is tried again. False where it took too long.

        What a service asks for is waited for, also where another service could be asked before.
        """
        if self._stalled > MAX_OUTAGE or self.is_over(deadline):
            return False
        for stall in stalls:
            self._tell(stall.event, stall.job, reason=stall.reason, seconds=round(stall.seconds))
        usual = min(max(self._stalled / 10, 1.0), MAX_INTERVAL)
        self._stalled += self._sleep(max(usual, *(min(stall.seconds, MAX_RETRY_AFTER) for stall in stalls)), deadline)
        return True

    def _tell(self, event: str, job: str = "", **fields: object) -> None:
        """Tell of a trouble once, until it is over."""
        if (event, job if event != SILENT else "") not in self._told:
            self._told.add((event, job if event != SILENT else ""))
            self._context.watcher.event(event, **({"job": job} if job else {}), **fields)

    def is_over(self, deadline: datetime | None) -> bool:
        """Whether the deadline has passed."""
        return deadline is not None and self._context.now() >= deadline

    def _sleep(self, seconds: float, deadline: datetime | None) -> float:
        """Sleep, but not past the deadline; how long it was."""
        if deadline is not None:
            left = (deadline - self._context.now()).total_seconds()
            seconds = min(seconds, max(left, 0.05))
        self._context.sleep(seconds)
        self._slept += seconds
        return seconds

    def wait_for_any(self, jobs: Sequence[PollTarget], deadline: datetime | None) -> bool:
        """Wait until a batch of `jobs` has ended, or one wakes. False if the deadline passed first.

        A service that can't be reached is waited out and told of once. Raises Unauthorized: that does not mend itself.
        """
        shortest = min(MIN_INTERVAL[job.kind] for job in jobs)
        wake = self._slept + min(job.wake for job in jobs)
        while True:
            pause = 0.0
            try:
                if self._look(jobs):
                    return True
                self._told, self._stalled = set(), 0.0
            except Unauthorized:
                raise
            except ProviderError as error:
                if isinstance(error, RateLimited | ServerError):
                    pause = min(error.retry_after or 0.0, MAX_RETRY_AFTER)
                if isinstance(error, RateLimited):
                    pause = pause or MAX_INTERVAL
                else:
                    self._tell(SILENT, reason=error.message)
            if self.is_over(deadline):
                return False
            if self._slept >= wake:
                return True
            # A tenth of what was waited already: quick for short batches, a minute for long ones.
            usual = min(max(self._slept / 10, shortest), MAX_INTERVAL)
            jitter = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            seconds = max(usual * jitter, pause * max(jitter, 1.0))
            self._sleep(min(seconds, max(wake - self._slept, pause)), deadline)

    def _look(self, jobs: Sequence[PollTarget]) -> bool:
        """Look at all batches, with one list for each service. Whether one has ended."""
        ended = False
        seen: dict[int, Mapping[str, RemoteBatch]] = {}
        for job in jobs:
            if id(job.api) not in seen:
                everyone = frozenset().union(*(other.batches for other in jobs if other.api is job.api))
                seen[id(job.api)] = _find(job.api, everyone, self._context.now()) if everyone else {}
            found = [seen[id(job.api)][batch] for batch in sorted(job.batches) if batch in seen[id(job.api)]]
            # Also those that have ended since: what was waited for is one thing, from its beginning to its end.
            awaited = self._counts.setdefault(job.address, {})
            awaited |= {batch.batch_id: batch.counts for batch in found}
            done = sum(counts.completed + counts.failed for counts in awaited.values())
            failed = sum(counts.failed for counts in awaited.values())
            total = sum(counts.total for counts in awaited.values())
            states = ", ".join(sorted({batch.status for batch in found}))
            if awaited:
                self._context.watcher.progress(f"answers {job.address}", done, total, failed, states)
            gone = [self._is_gone(batch, job.kind, job.address) for batch in job.batches - seen[id(job.api)].keys()]
            ended |= any(gone) or any(batch.ended for batch in found)
        return ended

    def _is_gone(self, batch: str, kind: str, address: str) -> bool:
        """Whether a batch that the service does not know has been missing for so long that it is gone."""
        if batch not in self._missing and CONSISTENCY_WINDOW[kind]:
            self._context.watcher.event(
                "batch.missing", job=address, batch=batch, seconds=round(CONSISTENCY_WINDOW[kind])
            )
        return self._slept - self._missing.setdefault(batch, self._slept) >= CONSISTENCY_WINDOW[kind]


def _find(api: BatchApi, wanted: frozenset[str], now: datetime) -> dict[str, RemoteBatch]:
    """The wanted batches, from the list; its pages are read only as far as needed."""
    found: dict[str, RemoteBatch] = {}
    for batch in newest_first(api, now):
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
