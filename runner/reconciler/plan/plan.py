"""The plan: what apply would do for each job, and why. Pure: values in, values out.

Reasons are for people and decide nothing. Whether there is anything to do stands once, in `JobPlan.changes`.
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
    """Submit missing requests as new batches. `round` is 1 for the first ask, more for retries."""

    round: int
    requests: int
    shards: int
    bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a batch that has not ended.

    `keys_known` is False where its requests can't be told yet: nothing else of the address is submitted before it has
    ended, and then what it does not hold.
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
    """Take a batch of this address into the lockfile that only the service knows of."""

    batch: str
    requests: int
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Requests that are neither used nor asked: an answer to them may have been paid for, or the canary has failed."""

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
    """An output on disk against the lockfile's line and the answers there are."""

    MISSING = "the file is not there"
    FOREIGN = "the file is not what the lockfile says"
    UNRECORDED = "the lockfile has no line for it"
    ERRORS = "the file of failed rows is not what the lockfile says"
    STALE = "other answers belong in it now"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A batch of the address, as far as the plan shows it.

    `kept_until` is the day until which the service keeps its results at least, empty where that is not known;
    `recorded` is whether the lockfile has its end.
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

    `held` is whether its output is left as it is, whatever belongs in it; `output_before` is where it was written until
    now, empty where that is no other file.
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
    """One row's prompt before and after a change; `before` is None where there was none."""

    row: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class JobPlan:
    """One job's part of the plan.

    `estimate` is what the requests to submit will take, None where there are none. `spent` is USD recorded for the job
    so far, `rows_before` its rows when it last ran; None where nothing is recorded. `rows` compares them one by one,
    where that was done. `failures` say why batches failed, in the service's words, which may quote rows; `shown` is
    whether the spec lets a reviewer see those, and `examples` are there only where it does. `held_back` are requests
    that would be submitted, had the canary not failed, or were new requests allowed: `asks_new`.
    `warnings` are about rows that the service will refuse.
    `unknown_batches` are those with answers that the service does not know, though it should; `unproven` are answers
    that lockfile and output alone vouch for.
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
        """Whether apply has anything to do here, if only to say that it can't go on."""
        return bool(self.held_back) or any(not isinstance(action, Hold) for action in self.actions)

    @property
    def removed(self) -> int:
        """Rows that are gone since it last ran: by id where rows were compared, else by their number."""
        return max(0, (self.rows_before or 0) - self.tally.rows) if self.rows is None else self.rows.removed

    @property
    def unseen(self) -> int:
        """Requests in flight that may be in no batch at all: which a running batch holds can't be told yet."""
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
        """Requests that would be in flight: those that would be submitted, and those of batches that run."""
        return self.submits + sum(action.requests for action in self.actions if isinstance(action, Wait))

    @property
    def exceeds_tolerance(self) -> bool:
        """Whether more requests stand failed than the job tolerates."""
        return self.tally.failed + self.tally.unknown > self.tolerated


@dataclass(frozen=True, slots=True)
class Orphan:
    """A job that has left the specs, and what the lockfile still has of it.

    `running` and `over` are batches that the lockfile knows as submitted; those that are `over` have ended since. It is
    left alone but for a person's word (`--prune`): then `cancel` are batches that will be ended, and `fetch` those
    whose answers will be kept.
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
    """The plan over all jobs of a command. `offline` says why the service was not asked, empty where it was.

    `over_budget` says which budgets it could go over, and by how much. `errors` are jobs that can't be planned, by
    address, and `codes` the codes of these errors.
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
        """Batches that will be ended."""
        return tuple(batch for orphan in self.orphans for batch in orphan.cancel)


def plan_job(view: JobFacts) -> JobPlan:
    """One job's actions, from its facts."""
    actions: list[Action] = []
    tally = view.tally
    # Each row has its answer, and it stands in the output: what an older batch held is of no use here.
    complete = view.output_state is OutputState.GOOD and not (tally.in_flight or tally.unknown or tally.submit)
    for batch in view.batches:
        if batch.adopted:
            actions.append(Adopt(batch.batch, batch.requests, "the lockfile has no line of it yet"))
        if not batch.ended:
            reason = f"it is {batch.state}" + (
                ""
                if batch.keys_known
                else "; which requests it holds shows when it ends, and those that it does not hold are asked then"
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
        actions.append(Write(view.output, view.tally.rows, "new answers come"))
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
    """The plan of a job whose canary has failed: what is missing is held, and no new answers are waited for."""
    left = [action for action in plan.actions if not isinstance(action, (Submit, Write))]
    return replace(plan, actions=(*left, Hold(plan.submits, reason)), held_back=plan.submits)


def with_proof(plan: JobPlan, unknown: tuple[str, ...], unproven: int) -> JobPlan:
    """Return the plan with what its answers rest on; batches that the service does not know are a note too."""
    notes = tuple(f"answers of a batch that the service does not know: {batch}" for batch in unknown)
    return replace(plan, unknown_batches=unknown, unproven=unproven, notes=(*plan.notes, *notes))


def without_new(plan: JobPlan) -> JobPlan:
    """Return the plan for `--no-new`: requests that no batch has asked yet are held, and so is the output they lack.

    What batches hold is adopted, waited for and downloaded, and what failed of it in a passing way is asked again.
    """
    if not plan.new:
        return replace(plan, asks_new=False)
    left = [a for a in plan.actions if not (isinstance(a, Write) or (isinstance(a, Submit) and a.round == 1))]
    hold = Hold(plan.new, "they were never asked, and `--no-new` submits nothing new; `batchspec apply` does")
    return replace(plan, actions=(*left, hold), held_back=plan.new, asks_new=False)


def causes(counts: Sequence[tuple[str, int]]) -> str:
    """Why requests failed, in words: the commonest causes, with their numbers."""
    shown = [f"{count:,} {cause}" for cause, count in counts[:4]]
    more = sum(count for _, count in counts[4:])
    return ", ".join([*shown, f"{more:,} for other reasons"] if more else shown) or "they failed in a passing way"


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
        # Where branches were merged each line stands, and none is known as the last.
        last_unknown = view.pinned is None and bool(view.batches)
        reason = (
            ("the lockfile does not say what ran last" if last_unknown else why_new(view.pinned, view.pins, view.rows))
            if number == 1
            else f"round {number}: {causes(view.tally.retried)}"
        )
        found.append(Submit(number, requests, len(shards), sum(shard.bytes for shard in shards), reason))
    return found
