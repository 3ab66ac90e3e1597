"""The plan: what apply would do for each job, and why. Pure: values in, values out.

Reasons are only shown; no code decides by them. `JobPlan.changes` alone decides whether there is anything to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum

from runner.money.estimate import Estimate
from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.reasons import RowChanges, rows_changed, why_new
from runner.state.lockfile_lines import PinsLine


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit missing requests as new batches. `round` is 1 at first, and more for retries."""

    round: int
    requests: int
    shards: int
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a batch that has not ended.

    `keys_known` is False if its requests aren't known until it ends. Until then nothing else of the job is submitted.
    """

    batch: str
    requests: int
    keys_known: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Fetch:
    """Download the results of a batch that has ended."""

    batch: str
    answers: int
    reason: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Record a batch of this job that only the service knows."""

    batch: str
    requests: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Leave requests alone: an answer may have been paid for already, or the canary failed."""

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
    """An output on disk, compared with the lockfile's line and the available answers."""

    MISSING = "the file is not there"
    FOREIGN = "the file is not what the lockfile says"
    UNRECORDED = "the lockfile has no line for it"
    ERRORS = "the file of failed rows is not what the lockfile says"
    STALE = "other answers belong in it now"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What the plan needs to know of a batch.

    `kept_until` is the day until which the service keeps its results at least, empty if unknown. `recorded` means that
    the lockfile has its end.
    """

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
    """One shard that would be submitted."""

    round: int
    requests: int
    bytes: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """All the facts that one job's plan is made from.

    `held` means that the output must not be overwritten. `output_before` is the file that the job wrote until now;
    empty if that is the same file.
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
    """One row's prompt before and after a change; `before` is None for a new row."""

    row: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job's part of the plan.

    `estimate` is for the requests to submit, None if there are none. `spent` is USD recorded for the job so far, and
    `rows_before` its rows when it last ran; None if not recorded. `rows` compares the rows by id, if that was done.
    `failures` are the service's reasons why batches failed, which may quote rows. `shown` means that the spec lets a
    reviewer see those; only then are there `examples`. `held_back` counts requests that are not submitted because the
    canary failed or new requests are not allowed (`asks_new`). `warnings` are about rows that the service will refuse.
    `unknown_batches` have answers here, but the service does not know them and should. `unproven` counts answers that
    only lockfile and output vouch for.
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

    @property
    def changes(self) -> bool:
        """Whether apply has anything to do here, even if that is only to report that it can't continue."""
        return bool(self.held_back) or any(not isinstance(action, Hold) for action in self.actions)

    @property
    def removed(self) -> int:
        """Rows removed since the last run: by id if rows were compared, else by their number."""
        return max(0, (self.rows_before or 0) - self.tally.rows) if self.rows is None else self.rows.removed

    @property
    def unseen(self) -> int:
        """Requests counted as in flight that may be in no batch: the requests of a running batch aren't known yet."""
        blind = any(isinstance(action, Wait) and not action.keys_known for action in self.actions)
        return self.tally.in_flight if blind else 0

    @property
    def new(self) -> int:
        """Requests that would be submitted for the first time."""
        return sum(action.requests for action in self.actions if isinstance(action, Submit) and action.round == 1)

    @property
    def submits(self) -> int:
        """Requests that would be submitted in the next round."""
        return sum(action.requests for action in self.actions if isinstance(action, Submit))

    @property
    def awaits(self) -> int:
        """Requests that would be in flight: those to submit, and those of running batches."""
        return self.submits + sum(action.requests for action in self.actions if isinstance(action, Wait))

    @property
    def exceeds_tolerance(self) -> bool:
        """Whether more requests failed than the job tolerates."""
        return self.tally.failed + self.tally.unknown > self.tolerated


@dataclass(frozen=True, slots=True)
class Orphan:
    """A job that no spec defines any more, and what the lockfile still has of it.

    The lockfile has `running` and `over` as submitted; those in `over` have ended since. Without `--prune` apply leaves
    both alone. With it, apply cancels the batches in `cancel` and downloads the answers of those in `fetch`.
    """

    address: str
    realm: str
    lock_path: str
    running: tuple[str, ...]
    ended: int
    cancel: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of all jobs of a command. `offline` is why the service was not asked, empty if it was.

    `over_budget` names budgets that the plan could exceed, and by how much. `errors` are why jobs can't be planned, by
    address; `codes` are the codes of these errors.
    """

    jobs: tuple[JobPlan, ...]
    errors: dict[str, str] = field(default_factory=dict)
    offline: str = ""
    orphans: tuple[Orphan, ...] = ()
    over_budget: tuple[str, ...] = ()
    codes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether apply has anything to do."""
        return any(job.changes for job in self.jobs) or any(orphan.cancel or orphan.fetch for orphan in self.orphans)

    @property
    def cancels(self) -> tuple[str, ...]:
        """Batches that apply will cancel."""
        return tuple(batch for orphan in self.orphans for batch in orphan.cancel)


def plan_job(view: JobFacts) -> JobPlan:
    """Return the plan of one job from its facts."""
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
    """Return the plan of a job after its canary failed: missing requests are held, and no output is written."""
    left = [action for action in plan.actions if not isinstance(action, (Submit, Write))]
    return replace(plan, actions=(*left, Hold(plan.submits, reason)), held_back=plan.submits)


def with_proof(plan: JobPlan, unknown: tuple[str, ...], unproven: int) -> JobPlan:
    """Return the plan with the origin of its answers. Each batch that the service does not know adds a note."""
    notes = tuple(f"answers of a batch that the service does not know: {batch}" for batch in unknown)
    return replace(plan, unknown_batches=unknown, unproven=unproven, notes=(*plan.notes, *notes))


def without_new(plan: JobPlan) -> JobPlan:
    """Return the plan for `--no-new`: requests that were never submitted are held, and no output is written.

    Existing batches are still adopted, awaited and downloaded, and transient failures in them are retried.
    """
    if not plan.new:
        return replace(plan, asks_new=False)
    left = [a for a in plan.actions if not (isinstance(a, Write) or (isinstance(a, Submit) and a.round == 1))]
    hold = Hold(plan.new, "they were never asked, and `--no-new` submits nothing new; `batchspec apply` does")
    return replace(plan, actions=(*left, hold), held_back=plan.new, asks_new=False)


def causes(counts: Sequence[tuple[str, int]]) -> str:
    """Return why requests failed: the most frequent causes, with their counts."""
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
