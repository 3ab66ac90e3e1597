"""Wait for batches, without a lock, by polling the service's list."""

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
"""Seconds between the first polls, by kind of provider. The local service has no rate limit."""
MAX_INTERVAL = 60.0
"""Longest interval between two polls (seconds)."""
SILENT = "service.silent"
MAX_OUTAGE = 6 * 3600.0
"""Longest outage (seconds) to wait out with something left to fetch or submit."""
MAX_RETRY_AFTER = 3600.0
"""Longest `Retry-After` (seconds) to honour; larger values are treated as a server bug."""


@dataclass(frozen=True, slots=True)
class PollTarget:
    """One job's batches. It continues after `wake` seconds."""

    address: str
    kind: str
    api: BatchApi
    batches: frozenset[str]
    wake: float = math.inf


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why a job can't continue, and for how many seconds (0: unknown).

    settles: it ends after `seconds` in any case. `code`: error if the command does not wait.
    """

    job: str
    reason: str
    seconds: float = 0.0
    event: str = SILENT
    settles: bool = False
    code: str = Unreachable.code


class BlockedError(Exception):
    """A job can't continue now. Apply releases the lock and retries later."""

    def __init__(self, blocked: Blocked) -> None:
        super().__init__(blocked.reason)
        self.blocked = blocked


class Poller:
    """One command's waiting, in growing intervals.

    Elapsed time is the sum of the sleeps: clocks jump and laptops suspend.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._slept = 0.0
        self._blocked_for = 0.0
        self._reported: set[tuple[str, str]] = set()
        self._missing: dict[str, float] = {}
        self._counts: dict[str, dict[str, Counts]] = {}

    def wait_before_retry(self, blocked: Sequence[Blocked], deadline: datetime | None) -> bool:
        """Sleep for the longest `Retry-After`. Return False if blocked for too long."""
        if self._blocked_for > MAX_OUTAGE or self.is_over(deadline):
            return False
        for one in blocked:
            self._report(one.event, one.job, reason=one.reason, seconds=round(one.seconds))
        usual = min(max(self._blocked_for / 10, 1.0), MAX_INTERVAL)
        seconds = max(usual, *(min(one.seconds, MAX_RETRY_AFTER) for one in blocked))
        self._blocked_for += self._sleep(seconds, deadline)
        return True

    def _report(self, event: str, job: str = "", **fields: object) -> None:
        problem = event, job if event != SILENT else ""
        if problem not in self._reported:
            self._reported.add(problem)
            self._context.watcher.event(event, **({"job": job} if job else {}), **fields)

    def is_over(self, deadline: datetime | None) -> bool:
        """Return whether the deadline has passed."""
        return deadline is not None and self._context.now() >= deadline

    def _sleep(self, seconds: float, deadline: datetime | None) -> float:
        if deadline is not None:
            until_deadline = (deadline - self._context.now()).total_seconds()
            seconds = min(seconds, max(until_deadline, 0.05))
        self._context.sleep(seconds)
        self._slept += seconds
        return seconds

    def wait_for_any(self, targets: Sequence[PollTarget], deadline: datetime | None) -> bool:
        """Wait until a batch ends or a `wake` passes. Return False at the deadline. Raises Unauthorized."""
        shortest = min(MIN_INTERVAL[target.kind] for target in targets)
        wake = self._slept + min(target.wake for target in targets)
        while True:
            pause = 0.0
            try:
                if self._poll(targets):
                    return True
                self._reported, self._blocked_for = set(), 0.0
            except Unauthorized:
                raise
            except ProviderError as error:
                pause = self._pause_after(error)
            if self.is_over(deadline):
                return False
            if self._slept >= wake:
                return True
            # Poll interval = 10% of the time waited so far, between the minimum and the maximum.
            usual = min(max(self._slept / 10, shortest), MAX_INTERVAL)
            jitter = random.uniform(0.9, 1.1)  # noqa: S311 - no secret
            seconds = max(usual * jitter, pause * max(jitter, 1.0))
            self._sleep(min(seconds, max(wake - self._slept, pause)), deadline)

    def _pause_after(self, error: ProviderError) -> float:
        pause = 0.0
        if isinstance(error, RateLimited | ServerError):
            pause = min(error.retry_after or 0.0, MAX_RETRY_AFTER)
        if isinstance(error, RateLimited):
            return pause or MAX_INTERVAL
        self._report(SILENT, reason=error.message)
        return pause

    def _poll(self, targets: Sequence[PollTarget]) -> bool:
        ended = False
        found: dict[int, Mapping[str, RemoteBatch]] = {}
        for target in targets:
            if id(target.api) not in found:
                wanted = frozenset().union(*(other.batches for other in targets if other.api is target.api))
                found[id(target.api)] = _find(target.api, wanted, self._context.now()) if wanted else {}
            listed = found[id(target.api)]
            batches = [listed[batch] for batch in sorted(target.batches) if batch in listed]
            self._report_progress(target.address, batches)
            missing = [self._is_gone(batch, target.kind, target.address) for batch in target.batches - listed.keys()]
            ended |= any(missing) or any(batch.ended for batch in batches)
        return ended

    def _report_progress(self, address: str, batches: Sequence[RemoteBatch]) -> None:
        """Report counts that never shrink."""
        counts = self._counts.setdefault(address, {})
        counts |= {batch.batch_id: batch.counts for batch in batches}
        if not counts:
            return
        done = sum(one.completed + one.failed for one in counts.values())
        failed = sum(one.failed for one in counts.values())
        total = sum(one.total for one in counts.values())
        states = ", ".join(sorted({batch.status for batch in batches}))
        self._context.watcher.progress(f"answers {address}", done, total, failed, states)

    def _is_gone(self, batch: str, kind: str, address: str) -> bool:
        if batch not in self._missing and CONSISTENCY_WINDOW[kind]:
            self._context.watcher.event(
                "batch.missing", job=address, batch=batch, seconds=round(CONSISTENCY_WINDOW[kind])
            )
        return self._slept - self._missing.setdefault(batch, self._slept) >= CONSISTENCY_WINDOW[kind]


def _find(api: BatchApi, wanted: frozenset[str], now: datetime) -> dict[str, RemoteBatch]:
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
