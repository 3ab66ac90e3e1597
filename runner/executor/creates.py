"""A job's creates, as the ledger has them."""

from __future__ import annotations

from collections.abc import Iterable

from runner.context import Context
from runner.jobspec.loader import JobSpec
from runner.state.ledger import Create, Ledger
from runner.state.lockfile import Lockfile


def creates_of(context: Context, spec: JobSpec) -> tuple[Create, ...]:
    """Return a job's creates under all its names. Raises StoreError."""
    if not context.places.ledger.exists():
        return ()
    ledger = Ledger(context.places.ledger, read_only=True)
    try:
        realm = context.realm(spec).name
        return tuple(create for name in context.names(spec) for create in ledger.creates(realm, name))
    finally:
        ledger.close()


def unrecorded_creates(context: Context, lockfiles: Iterable[Lockfile]) -> frozenset[str]:
    """Return addresses with a create that no lockfile records: its process died before. Raises StoreError."""
    if not context.places.ledger.exists():
        return frozenset()
    lines = [line for lockfile in lockfiles for line in lockfile.batches.values()]
    ledger = Ledger(context.places.ledger, read_only=True)
    try:
        return ledger.unrecorded({line.batch for line in lines}, {line.request_id for line in lines if line.request_id})
    finally:
        ledger.close()
