"""A job's creates, as the ledger has them."""

from __future__ import annotations

from runner.context import Context
from runner.jobspec.loader import JobSpec
from runner.state.ledger import Create, Ledger


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
