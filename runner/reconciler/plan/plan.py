"""The plan: what apply would do for each job, and why. Pure.

Reasons decide nothing; `JobPlan.changes` alone does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum

from runner.money.estimate import Estimate
from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.partition_state import Waits
from runner.reconciler.plan.reasons import RowChanges, rows_changed, why_new
from runner.state.lockfile_lines import PinsLine


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit missing requests. Rounds above 1 are retries."""

    round: int
    requests: int
    shards: int
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a batch. If not `keys_known`, submit nothing until then."""

    batch: str
    requests: int
    keys_known: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download an ended batch's results."""

    batch: str
    answers: int
    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Record a batch that only the service knows."""

    batch: str
    requests: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave requests alone: they may be paid for, or the canary failed."""

    requests: int
    reason: str


@dataclass(frozen=True, slots=True)
class Write:
    """Write the output."""

    path: str
    rows: int
    reason: str


Action = Submit | Wait | Fetch | Adopt | Hold | Write


class OutputState(Enum):
    """An output compared with lockfile and answers."""

    MISSING = "the file is not there"
    FOREIGN = "the file is not what the lockfile says"
    UNRECORDED = "the lockfile has no line for it"
    ERRORS = "the file of failed rows is not what the lockfile says"
    STALE = "other answers belong in it now"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What the plan needs of a batch. `recorded`: the lockfile has its end."""

    batch: str
    requests: int
    ended: bool
    indexed: bool
    keys_known: bool
    adopted: bool
    state: str
    answers: int = 0
    kept_until: str = ""
    recorded: bool = False


@dataclass(frozen=True, slots=True)
class ShardSize:
    """One shard to submit."""

    round: int
    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """All facts for one job's plan.

    held: the output must not be overwritten. `output_before`: the previous file, if another.
    """

    address: str
    realm: str
    output: str
    tally: KeyCounts
    batches: Sequence[BatchFacts]
    shards: Sequence[ShardSize]
    output_state: OutputState
    pins: PinsLine
    pinned: PinsLine | None
    tolerated: int
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()
    rows: RowChanges | None = None
    held: bool = False
    output_before: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A row's prompt before (None if new) and after."""

    row: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job's part of the plan. Amounts are USD.

    failures: may quote rows. `shown`: reviewers may see those, and `examples`.
    held_back: requests held because of a failed canary or `--no-new` (not `asks_new`).
    unknown_batches: have answers here, but the service should know them and does not.
    unproven: answers that only lockfile and output have.
    """

    address: str
    realm: str
    output: str
    tally: KeyCounts
    actions: tuple[Action, ...]
    tolerated: int
    notes: tuple[str, ...] = ()
    estimate: Estimate | None = None
    spent: Decimal | None = None
    rows_before: int | None = None
    rows: RowChanges | None = None
    failures: tuple[str, ...] = ()
    shown: bool = False
    examples: tuple[Example, ...] = ()
    held_back: int = 0
    asks_new: bool = True
    warnings: tuple[str, ...] = ()
    unknown_batches: tuple[str, ...] = ()
    unproven: int = 0
    waits: Waits | None = None

    @property
    def changes(self) -> bool:
        """Whether apply has anything to do or to report."""
        return bool(self.held_back or self.waits) or any(not isinstance(action, Hold) for action in self.actions)

    @property
    def removed(self) -> int:
        """Rows removed since the last run."""
        return max(0, (self.rows_before or 0) - self.tally.rows) if self.rows is None else self.rows.removed

    @property
    def unseen(self) -> int:
        """Requests counted as in flight that may be in no batch."""
        blind = any(isinstance(action, Wait) and not action.keys_known for action in self.actions)
        return self.tally.in_flight if blind else 0

    @property
    def new(self) -> int:
        """Requests to submit for the first time."""
        return sum(action.requests for action in self.actions if isinstance(action, Submit) and action.round == 1)

    @property
    def submits(self) -> int:
        """Requests to submit next."""
        return sum(action.requests for action in self.actions if isinstance(action, Submit))

    @property
    def awaits(self) -> int:
        """Requests to submit or in flight."""
        return self.submits + sum(action.requests for action in self.actions if isinstance(action, Wait))

    @property
    def exceeds_tolerance(self) -> bool:
        """Whether more requests failed than the job tolerates."""
        return self.tally.failed + self.tally.unknown > self.tolerated


@dataclass(frozen=True, slots=True)
class Orphan:
    """A job that no spec defines any more. `over`: ended, but not in the lockfile."""

    address: str
    realm: str
    lock_path: str
    running: tuple[str, ...]
    ended: int
    cancel: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClosedPartition:
    """A closed partition, which is not read. `earlier`: it was asked with another template."""

    address: str
    failed: bool
    earlier: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of all jobs. `offline`: why the service was not asked. `errors`: why jobs can't be planned.

    `later` names due periods beyond the limit of new ones; `waiting`: why due periods wait for input, by address.
    """

    jobs: tuple[JobPlan, ...]
    errors: dict[str, str] = field(default_factory=dict)
    offline: str = ""
    orphans: tuple[Orphan, ...] = ()
    over_budget: tuple[str, ...] = ()
    codes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    later: tuple[str, ...] = ()
    waiting: dict[str, str] = field(default_factory=dict)
    closed: tuple[ClosedPartition, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether apply has anything to do."""
        return any(job.changes for job in self.jobs) or any(orphan.cancel or orphan.fetch for orphan in self.orphans)

    @property
    def cancels(self) -> tuple[str, ...]:
        """Batches to cancel."""
        return tuple(batch for orphan in self.orphans for batch in orphan.cancel)


def plan_job(view: JobFacts) -> JobPlan:
    """Return the plan of one job."""
    actions: list[Action] = []
    tally = view.tally
    # The output has an answer for each row, so results of older batches are not needed.
    complete = view.output_state is OutputState.GOOD and not (tally.in_flight or tally.unknown or tally.submit)
    for batch in view.batches:
        if batch.adopted:
            actions.append(Adopt(batch.batch, batch.requests, "the lockfile has no line of it yet"))
        if not batch.ended:
            reason = f"it is {batch.state}"
            if not batch.keys_known:
                reason = (
                    f"{batch.state}. Its requests aren't known until it ends; "
                    "any that turn out to be missing are submitted then."
                )
            actions.append(Wait(batch.batch, batch.requests, batch.keys_known, reason))
        elif not batch.indexed and not (complete and batch.recorded):
            until = f"; the service keeps them until {batch.kept_until} at least" if batch.kept_until else ""
            reason = f"it has {_ended(batch.state)} and its results are not here{until}"
            actions.append(Fetch(batch.batch, batch.answers, reason))
    actions += _submits(view)
    if view.tally.unknown:
        actions.append(
            Hold(
                view.tally.unknown,
                "an ended batch may hold paid answers to them that can't be read; "
                f"`--ask-unknown {view.address}` asks them again",
            )
        )
    settled = not any(isinstance(action, (Submit, Wait, Fetch)) for action in actions)
    if not (settled or view.held):
        actions.append(Write(view.output, view.tally.rows, "new answers expected"))
    elif not view.held and view.output_state is not OutputState.GOOD:
        actions.append(Write(view.output, view.tally.rows, _why_written(view)))
    return JobPlan(
        view.address,
        view.realm,
        view.output,
        view.tally,
        tuple(actions),
        view.tolerated,
        tuple(view.notes),
        rows_before=view.pinned.rows if view.pinned else None,
        rows=view.rows,
        failures=tuple(view.failures),
    )


def hold_back(plan: JobPlan, reason: str) -> JobPlan:
    """Hold missing requests and write no output."""
    left = [action for action in plan.actions if not isinstance(action, (Submit, Write))]
    return replace(plan, actions=(*left, Hold(plan.submits, reason)), held_back=plan.submits)


def with_proof(plan: JobPlan, unknown: tuple[str, ...], unproven: int) -> JobPlan:
    """Add the answers' origin, with notes."""
    notes = tuple(f"answers of a batch that the service does not know: {batch}" for batch in unknown)
    return replace(plan, unknown_batches=unknown, unproven=unproven, notes=(*plan.notes, *notes))


def without_new(plan: JobPlan) -> JobPlan:
    """Hold requests never submitted, for `--no-new`; write no output.

    Still adopts, awaits and downloads batches, and retries transient failures.
    """
    if not plan.new:
        return replace(plan, asks_new=False)
    left = [a for a in plan.actions if not (isinstance(a, Write) or (isinstance(a, Submit) and a.round == 1))]
    hold = Hold(plan.new, "they were never asked, and `--no-new` submits nothing new; `batchspec apply` does")
    return replace(plan, actions=(*left, hold), held_back=plan.new, asks_new=False)


def without_submits(plan: JobPlan, reason: str, *, writes: bool) -> JobPlan:
    """Return the plan without anything to submit. It writes only if `writes` and no request is missing."""
    if not plan.submits:
        left = plan.actions if writes else tuple(one for one in plan.actions if not isinstance(one, Write))
        return replace(plan, actions=left, asks_new=False)
    return replace(hold_back(plan, reason), asks_new=False)


def causes(counts: Sequence[tuple[str, int]]) -> str:
    """Return the most frequent causes, with counts."""
    shown = [f"{count:,} {cause}" for cause, count in counts[:4]]
    more = sum(count for _, count in counts[4:])
    return ", ".join([*shown, f"{more:,} for other reasons"] if more else shown) or "transient failures"


def _why_written(view: JobFacts) -> str:
    if view.output_state is OutputState.STALE and view.rows is not None and view.pinned is not None:
        return rows_changed(view.pinned, view.pins, view.rows)
    if view.output_before:
        return f"the spec names another file than before; {view.output_before} stays as it is"
    return view.output_state.value


def _ended(state: str) -> str:
    return f"been {state}" if state == "cancelled" else state


def _submits(view: JobFacts) -> list[Submit]:
    found = []
    settled = all(batch.ended and batch.indexed for batch in view.batches)
    for number, requests in view.tally.submit:
        if number > 1 and not settled:
            continue  # rounds are cut only when nothing is in flight, so that every machine cuts the same bytes
        shards = [shard for shard in view.shards if shard.round == number]
        # After a merge of branches the lockfile has the lines of both, and none is known as the last.
        last_unknown = view.pinned is None and bool(view.batches)
        reason = (
            ("the lockfile does not say what ran last" if last_unknown else why_new(view.pinned, view.pins, view.rows))
            if number == 1
            else f"round {number}: {causes(view.tally.retried)}"
        )
        found.append(Submit(number, requests, len(shards), sum(shard.bytes for shard in shards), reason))
    return found
