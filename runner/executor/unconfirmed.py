"""Before submitting, check unanswered creates, and batches that match no job."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from runner.errors import ConflictError
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batches import moment_of
from runner.state.ledger import Create
from runner.state.lockfile_lines import BatchLine

GRACE_PERIOD = {"local": 0.0, "digitalocean": 120.0}
"""Seconds after which an unconfirmed create that is not in the list has failed."""
_NAMED = 3


def supports_idempotency_keys(listed: Mapping[str, RemoteBatch]) -> bool:
    """Return whether listed batches have idempotency keys."""
    return any(batch.request_id for batch in listed.values())


class CreateGracePeriod:
    """How long to wait for unconfirmed creates' batches, in spite of clock jumps."""

    def __init__(self, kind: str) -> None:
        self._seconds = GRACE_PERIOD[kind]
        self._first_seen: dict[str, datetime] = {}

    def remaining(self, unconfirmed: Iterable[Create], now: datetime) -> float:
        """Return the seconds until the list proves that all these creates failed."""
        ages = [self._age(create, now) for create in unconfirmed]
        return max(self._seconds - min(ages, default=self._seconds), 0.0)

    def _age(self, create: Create, now: datetime) -> float:
        first_seen = self._first_seen.setdefault(create.request_id, now)
        return max((now - create.at).total_seconds(), (now - first_seen).total_seconds(), 0.0)


def check_unrecognized_batches(
    address: str,
    listed: Mapping[str, RemoteBatch],
    known: Collection[str],
    sizes: Collection[int],
    last: BatchLine | None,
) -> None:
    """Raise ConflictError if unrecorded batches may be this job's, at a service without keys and metadata.

    sizes: request counts of the shards to submit. `last`: the newest recorded batch; older ones belong to other jobs.
    """
    since = moment_of(last.created_at) if last is not None else None
    unrecognized = [
        batch.batch_id
        for batch in listed.values()
        if not batch.metadata
        and batch.batch_id not in known
        and batch.counts.total in {0, *sizes}
        and (since is None or batch.created_at is None or batch.created_at >= since)
    ]
    if unrecognized:
        after = f" after {last.batch}" if last is not None else ""
        more = f" and {len(unrecognized) - _NAMED} more" if len(unrecognized) > _NAMED else ""
        names = ", ".join(unrecognized[:_NAMED]) + more
        raise ConflictError(
            f"{address}: no submission of this job is recorded{after}, and "
            f"the service does not say which job these batches belong to: {names}; nothing was submitted",
            hint="restore the lockfile from git, or import this job's batches with "
            f"`batchspec import {address} BATCH --requests FILE`. If none of the others is this job's, continue with "
            f"`--ask-unknown {address}`",
        )
