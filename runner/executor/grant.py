"""The limits of an apply, kept in the ledger: `listen` continues a job within them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime

from runner.executor.outcome import RenderedJob
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.state.ledger import Grant, Ledger


def record_grant(
    ledger: Ledger, realm: str, job: RenderedJob, limits: PlanLimits, options: ApplyOptions, now: datetime
) -> None:
    """Record what this apply may submit.

    With `--no-new`, a grant for the same pins stays: this apply submits less, but takes nothing back.
    """
    address = job.desired.spec.address
    before = ledger.grant_of(realm, address)
    if options.no_new and before is not None and before.pins == job.pins.pins:
        return
    ledger.record_grant(
        Grant(
            realm,
            address,
            job.pins.pins,
            limits.requests,
            limits.retries,
            limits.in_flight,
            limits.rounds,
            job.override,
            now,
        )
    )


def remaining_limits(ledger: Ledger, grant: Grant, recorded: Collection[str]) -> PlanLimits | None:
    """Return what is left of a grant; None if nothing was submitted within it.

    `recorded` are the lockfile's idempotency keys. A create without a response counts once its batch is recorded: until
    then it may be sent again with the same key.
    """
    creates = [
        one for one in ledger.creates(grant.realm, grant.address) if one.at >= grant.at and one.state != "refused"
    ]
    if not creates:
        return None
    used = Counter[int]()
    for one in creates:
        if one.state == "created" or one.request_id in recorded:
            used[one.round] += one.requests
    return PlanLimits(grant.requests, grant.retries, grant.in_flight, grant.rounds).after(used)
