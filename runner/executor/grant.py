"""The limits of an apply, kept in the ledger, so that `listen` can continue a job within them."""

from __future__ import annotations

from datetime import datetime

from runner.executor.outcome import RenderedJob
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.state.ledger import Grant, Ledger


def record_grant(
    ledger: Ledger, realm: str, job: RenderedJob, limits: PlanLimits, options: ApplyOptions, now: datetime
) -> None:
    """Record what this apply may submit.

    An apply with `--no-new` leaves a grant for the same pins as it is: it submits less, but takes nothing back.
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


def remaining_limits(ledger: Ledger, grant: Grant) -> PlanLimits:
    """Return what is left of a grant."""
    used = ledger.submitted_since(grant.realm, grant.address, grant.at)
    return PlanLimits(grant.requests, grant.retries, grant.in_flight, grant.rounds).after(used)
