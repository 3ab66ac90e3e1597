"""Plans of partitions that wait or are restored. Pure."""

from __future__ import annotations

from dataclasses import replace

from runner.reconciler.plan.partition_state import Waits
from runner.reconciler.plan.plan import Fetch, Hold, JobPlan, Submit, Wait, Write


def waiting(plan: JobPlan, waits: Waits) -> JobPlan:
    """Return a waiting partition's plan: fetch existing batches, submit and write nothing."""
    left = [action for action in plan.actions if not isinstance(action, (Submit, Write))]
    hold = Hold(plan.tally.missing, f"waits: {waits.reason}")
    return replace(plan, actions=(*left, hold), asks_new=False, waits=waits)


def restoring(plan: JobPlan) -> JobPlan:
    """Return the plan of a closed partition whose output is missing: submit nothing.

    It waits if an answer is neither here nor at the service.
    """
    left = tuple(action for action in plan.actions if not isinstance(action, Submit))
    tally = plan.tally
    lost = tally.missing + tally.unknown + tally.in_flight
    if not lost or any(isinstance(action, (Wait, Fetch)) for action in left):
        return replace(plan, actions=left, asks_new=False)
    reason = f"{plan.output} is missing, and {lost:,} of its answers are neither here nor at the service"
    return waiting(plan, Waits(f"{reason}; restore the file from git"))
