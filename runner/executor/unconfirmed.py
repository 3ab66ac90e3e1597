"""Before anything goes out: creates whose fate is not known, and batches that do not say whose they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from runner.errors import ConflictError
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batches import moment_of
from runner.state.ledger import Create
from runner.state.lockfile_lines import BatchLine

DOUBT = {"local": 0.0, "digitalocean": 120.0}
"""Seconds after a create without an answer before the list is believed when it does not show its batch."""
_NAMED = 3


def supports_idempotency_keys(listed: Mapping[str, RemoteBatch]) -> bool:
    """Whether the service is seen to know the keys that batches are created with: one that tells them keeps them."""
    return any(batch.request_id for batch in listed.values())


class CreateGracePeriod:
    """How long one job's creates without an answer are waited for, also where clocks have jumped."""

    def __init__(self, kind: str) -> None:
        self._grace = DOUBT[kind]
        self._since: dict[str, datetime] = {}

    def left(self, doubtful: Iterable[Create], now: datetime) -> float:
        """Seconds until the list is believed; 0 where nothing is in doubt."""
        ages = [self._age(create, now) for create in doubtful]
        return max(self._grace - min(ages, default=self._grace), 0.0)

    def _age(self, create: Create, now: datetime) -> float:
        first = self._since.setdefault(create.request_id, now)
        return max((now - create.at).total_seconds(), (now - first).total_seconds(), 0.0)


def check_unrecognized_batches(
    address: str,
    listed: Mapping[str, RemoteBatch],
    known: Collection[str],
    sizes: Collection[int],
    last: BatchLine | None,
) -> None:
    """Stop a job where the service has batches that may be its own, though nothing here has recorded them.

    Only a service that tells neither keys nor metadata comes to this: there what a lost or an old lockfile does not say
    can't be found again. `last` is the newest batch of the job that is recorded, None where none is: what is older is
    another's. `known` are the batches of all lockfiles and of the ledger, `sizes` the requests of the shards that would
    go out. Raises ConflictError.
    """
    since = moment_of(last.created_at) if last is not None else None
    strangers = [
        batch.batch_id
        for batch in listed.values()
        if not batch.metadata
        and batch.batch_id not in known
        and batch.counts.total in {0, *sizes}
        and (since is None or batch.created_at is None or batch.created_at >= since)
    ]
    if strangers:
        after = f" after {last.batch}" if last is not None else ""
        names = ", ".join(strangers[:_NAMED]) + (f" and {len(strangers) - _NAMED} more" * (len(strangers) > _NAMED))
        raise ConflictError(
            f"{address}: no submission of this job is recorded{after}, and "
            "the service does not tell whose these batches are: "
            f"{names}; nothing was submitted",
            hint="get the lockfile back from git, or take the batches in with "
            f"`batchspec import {address} BATCH --requests FILE`; where the rest is not this job's, "
            f"`--ask-unknown {address}` goes on",
        )
