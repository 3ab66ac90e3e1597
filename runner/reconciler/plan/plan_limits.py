"""The most that apply may do under a plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from runner.reconciler.plan.plan import JobPlan

REFUSALS = 24
"""Creates of one batch that a full queue may refuse in one apply."""


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What may be submitted for one job.

    `requests` new ones, once. Of those, of `in_flight` and of `retries` due now, transient failures may be retried up
    to round `rounds`. `used` were submitted before this command, by round.
    """

    requests: int
    retries: int
    in_flight: int
    rounds: int
    used: tuple[tuple[int, int], ...] = ()

    def after(self, used: Mapping[int, int]) -> PlanLimits:
        """Return what is left after earlier requests, by round."""
        return replace(self, used=tuple(sorted(used.items())))

    def within(self, other: PlanLimits) -> PlanLimits:
        """Return what both allow."""
        new = min(self.requests, other.requests)
        later = min(ceiling.requests + ceiling.retries + ceiling.in_flight for ceiling in (self, other)) - new
        retries = later if self.retries and other.retries else 0
        return PlanLimits(new, retries, later - retries, min(self.rounds, other.rounds))

    def violation(self, number: int, submitted: int, wanted: int) -> str:
        """Return why `wanted` more requests in a round are too many, or ""."""
        most = self.requests if number == 1 else self.requests + self.retries + self.in_flight
        submitted += dict(self.used).get(number, 0)
        if number > max(self.rounds, 1):
            return f"round {number} is beyond the {self.rounds} rounds of the plan"
        if submitted + wanted > most:
            what = "new requests" if number == 1 else f"requests in round {number}"
            return f"the plan allows {most:,} {what}, and now {submitted + wanted:,} would be submitted"
        return ""


def plan_limits_of(plan: JobPlan, rounds: int) -> PlanLimits:
    """Return a plan's limits. Explicit options may exceed `rounds` (`retry.rounds`)."""
    # What may be in no batch may turn out to be new; it is not counted as in flight then.
    unseen = plan.unseen if plan.asks_new else 0
    new = plan.new + unseen
    retries = sum(count for number, count in plan.tally.submit if number > 1)
    last = max([rounds, *(number for number, _ in plan.tally.submit)])
    return PlanLimits(new, retries, plan.tally.in_flight - unseen, last)


def most_refusals(shards: int) -> int:
    """Return how many refusals so many shards may get."""
    return REFUSALS * max(1, shards)
