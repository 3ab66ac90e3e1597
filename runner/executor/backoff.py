"""When to submit again after the account's queue was full.

A refusal is not billed and uses up no round. After one, submit when another batch ends, or after a doubling pause.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from runner.context import Watcher
from runner.errors import BatchspecError, QueueFull
from runner.reconciler.observe.batches import BatchRecord, moment_of
from runner.reconciler.plan.plan_limits import most_refusals

MIN_PAUSE = 300.0
"""Seconds before the first retry if no batch ends earlier."""
MAX_PAUSE = 3600.0
MAX_AGE = timedelta(hours=24)
"""How long a refusal counts: the completion window of a batch."""
MAX_REFUSALS_ALONE = 3
"""Refusals of a shard with nothing in flight before the job stops: the shard does not fit the queue."""


@dataclass(frozen=True, slots=True)
class Room:
    """Batches that may be submitted now (None: no limit), and seconds until the next."""

    batches: int | None = None
    seconds: float = 0.0

    @property
    def wake(self) -> float:
        """Seconds until the next attempt, or infinite."""
        return self.seconds if self.batches == 0 else math.inf


class Backoff:
    """Refusals of one job in one apply."""

    def __init__(self) -> None:
        self.words = ""
        self.size = 0
        self._alone: Counter[str] = Counter()
        self._creates: list[tuple[str, datetime]] = []
        self._counted: set[str] = set()
        self._marks: frozenset[str] | None = None
        self._ended: frozenset[str] = frozenset()
        self._since: datetime | None = None
        self._reported: str = ""

    def look(self, batches: Sequence[BatchRecord], sent: Collection[str], running: int) -> list[BatchRecord]:
        """Count newly refused batches. Return those in `sent`."""
        new = [one for one in batches if one.refused and one.line.batch not in self._counted]
        self._counted.update(one.line.batch for one in new)
        for one in new:
            self.words = one.index.summary.failure[0] if one.index is not None else ""
            self.size = one.line.bytes or 0
        own = [one for one in new if one.line.batch in sent]
        if len(own) == 1 and not running:
            self._alone[_name(own[0])] += 1
        return own

    def refuse(self, shard: str, size: int, error: QueueFull, now: datetime, running: int) -> None:
        """Count a refused create request."""
        self._creates.append((shard, now))
        self.words, self.size = error.message, size
        if not running:
            self._alone[shard] += 1

    def room(
        self, address: str, batches: Sequence[BatchRecord], shards: int, running: int, now: datetime, watcher: Watcher
    ) -> Room:
        """Return how many of `shards` shards may be submitted now. Raises BatchspecError if waiting does not help."""
        hopeless = not running and max(self._alone.values(), default=0) >= MAX_REFUSALS_ALONE
        if hopeless or len(self._counted) + len(self._creates) > most_refusals(shards):
            raise BatchspecError(
                f"{address}: the service's queue has no room for this batch: {self.words}",
                hint=f"nothing was billed for it; set `shards.max_bytes` to {max(self.size // 2, 1)} or less, or apply "
                "again when other batches of the account have ended",
                code="BS511",
            )
        found = self._room(batches, now)
        if found.batches == 0 and self._reported != str(self._since):
            self._reported = str(self._since)
            watcher.event("queue.full", job=address, reason=self.words, seconds=round(found.seconds))
        return found

    def _room(self, batches: Sequence[BatchRecord], now: datetime) -> Room:
        refused = [one for one in batches if one.refused and now - _moment(one, now) < MAX_AGE]
        if not refused and not self._creates:
            return Room()
        last = batches.index(refused[-1]) if refused else -1
        later = [one for one in batches[last + 1 :] if not one.refused] if refused else []
        ended = frozenset(one.line.batch for one in batches if one.ended and not one.refused)
        marks = frozenset({*(one.line.batch for one in (*refused, *later)), f"{len(self._creates)} creates"})
        if marks != self._marks or self._since is None:
            # A refusal from before this apply has been waiting since then.
            first = self._marks is None and refused and not later and not self._creates
            self._since = min(_moment(refused[-1], now), now) if first else now
            self._marks, self._ended = marks, ended
        if fresh := ended - self._ended:
            return Room(len(fresh))
        pause = min(MIN_PAUSE * 2.0 ** min(self._in_a_row(refused, later) - 1, 10), MAX_PAUSE)
        remaining = pause - (now - self._since).total_seconds()
        return Room(1) if remaining <= 0 else Room(0, math.ceil(remaining))

    def _in_a_row(self, refused: Sequence[BatchRecord], later: Sequence[BatchRecord]) -> int:
        if any(one.ended or one.state not in {"submitted", "validating"} for one in later):
            return 1
        names = Counter([*(_name(one) for one in refused), *(shard for shard, _ in self._creates)])
        return max(names.values(), default=1)


def _name(one: BatchRecord) -> str:
    return one.line.shard or one.line.batch


def _moment(one: BatchRecord, now: datetime) -> datetime:
    return moment_of(one.line.ended_at or "") or moment_of(one.line.created_at) or now
