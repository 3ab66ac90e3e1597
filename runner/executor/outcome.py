"""The input and the outcome of one job's apply."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from runner.money.estimate import Estimate
from runner.planner.render import Desired
from runner.reconciler.observe.batches import BatchRecord
from runner.reconciler.plan.job_estimate import spent
from runner.reconciler.plan.partition_state import Waits
from runner.reconciler.plan.plan import JobPlan
from runner.state.lockfile_lines import BatchLine, PinsLine

End = Literal["succeeded", "failed", "running", "skipped", "error"]


@dataclass(frozen=True, slots=True)
class RenderedJob:
    """A rendered job. `override`: why apply may exceed the budget.

    `waits`: why a started partition submits nothing. `restores`: write the missing output of a closed one.
    """

    desired: Desired
    pins: PinsLine
    estimate: Estimate | None = None
    override: str = ""
    waits: Waits | None = None
    restores: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended. `failed`: more requests failed than tolerated. Amounts are USD or None.

    cost: of batches that this apply submitted. `expected`: their estimate, or limit if `at_most`.
    earlier: of older batches that this apply recorded.
    """

    address: str
    end: End
    plan: JobPlan | None = None
    message: str = ""
    submitted: int = 0
    running: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    cost: Decimal | None = None
    expected: Decimal | None = None
    at_most: bool = False
    earlier: Decimal | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """Why whole batches failed."""
        return self.plan.failures if self.plan is not None and self.end != "succeeded" else ()


@dataclass(frozen=True, slots=True)
class Paid:
    """The cost fields of an Outcome."""

    cost: Decimal | None
    expected: Decimal | None
    at_most: bool
    earlier: Decimal | None

    @classmethod
    def of(
        cls, batches: Sequence[BatchRecord], sent: Collection[str], priced: Collection[str], estimate: Estimate | None
    ) -> Paid:
        """Sum up recorded batches: `sent` by this apply, and not `priced` before."""
        recorded = [known.line for known in batches if known.line.cost is not None]
        own = [line for line in recorded if line.batch in sent]
        before = [line for line in recorded if line.batch not in sent and line.batch not in priced]
        share = None if estimate is None or not own else estimate.share(*_sizes(own))
        return cls(spent(own), share.cost if share else None, share.at_most if share else False, spent(before))

    def into(self, outcome: Outcome) -> Outcome:
        """Set these amounts."""
        return replace(outcome, cost=self.cost, expected=self.expected, at_most=self.at_most, earlier=self.earlier)


def _sizes(lines: Sequence[BatchLine]) -> tuple[int, int]:
    return sum(line.requests for line in lines), sum(line.bytes or 0 for line in lines)
