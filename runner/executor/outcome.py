"""What goes into one job's apply, and how it ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from runner.money.estimate import Estimate
from runner.planner.render import Desired
from runner.reconciler.observe.batches import BatchRecord
from runner.reconciler.plan.job_estimate import spent
from runner.reconciler.plan.plan import JobPlan
from runner.state.lockfile_lines import BatchLine, PinsLine

End = Literal["succeeded", "failed", "running", "skipped", "error"]


@dataclass(frozen=True, slots=True)
class RenderedJob:
    """A job that is rendered, with its pins; for apply also what its plan expects, and why a budget may be broken."""

    desired: Desired
    pins: PinsLine
    estimate: Estimate | None = None
    override: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended. `failed`: more requests stand failed than it tolerates. `error`: it stopped.

    `message` says why, and `codes` are those of its errors. `cost` is USD of the batches that this apply submitted, as
    far as they are recorded, and `expected` what was estimated for the same batches, a limit where `at_most`. `earlier`
    is USD of batches that were submitted before and recorded now. None where nothing is known, or there are none.
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
        """Why batches of the job failed as a whole, in the service's words, each cause once; none if it succeeded."""
        return self.plan.failures if self.plan is not None and self.end != "succeeded" else ()


@dataclass(frozen=True, slots=True)
class Paid:
    """What the batches of an apply cost, as the fields of an Outcome."""

    cost: Decimal | None
    expected: Decimal | None
    at_most: bool
    earlier: Decimal | None

    @classmethod
    def of(
        cls, batches: Sequence[BatchRecord], sent: Collection[str], priced: Collection[str], estimate: Estimate | None
    ) -> Paid:
        """Sum up recorded batches: those that were `sent` now, and those that were not `priced` before it."""
        recorded = [known.line for known in batches if known.line.cost is not None]
        own = [line for line in recorded if line.batch in sent]
        before = [line for line in recorded if line.batch not in sent and line.batch not in priced]
        share = None if estimate is None or not own else estimate.share(*_sizes(own))
        return cls(spent(own), share.cost if share else None, share.at_most if share else False, spent(before))

    def into(self, outcome: Outcome) -> Outcome:
        """The outcome with these amounts."""
        return replace(outcome, cost=self.cost, expected=self.expected, at_most=self.at_most, earlier=self.earlier)


def _sizes(lines: Sequence[BatchLine]) -> tuple[int, int]:
    """Requests and bytes of batches that were cut here."""
    return sum(line.requests for line in lines), sum(line.bytes or 0 for line in lines)
