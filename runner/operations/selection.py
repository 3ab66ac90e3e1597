"""Which jobs a command is about: the specs', recorded partitions, and due periods."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum, auto

from runner.context import Context
from runner.errors import BatchspecError, Problem, SpecError
from runner.jobspec.job_spec import JobSpec, Project
from runner.jobspec.loader import bind
from runner.jobspec.matrix import Scalar, address_of, address_value, split_address
from runner.jobspec.periods import PeriodError
from runner.jobspec.suggest import did_you_mean
from runner.operations.choice import Choice, is_exact, matches, names_partitions
from runner.operations.recorded import RecordedPartitions, matrix_values, respelled
from runner.reconciler.plan.partition_state import PartitionState
from runner.state.ledger import Create


class Scope(Enum):
    """Which partitions a command takes by default."""

    RUN = auto()
    """Open partitions: it goes on with them."""
    RECORDED = auto()
    """Each partition that a lockfile records: it looks back."""
    GIVEN = auto()
    """None: the command asks for the values."""


@dataclass(frozen=True, slots=True)
class NewPeriods:
    """Periods that a command may start. `jobs` has job and period by address; `limit` is for each job."""

    limit: int
    jobs: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class Starting:
    """Counts the new periods that a command starts, within each job's limit; `waiting` ones have no input yet."""

    def __init__(self, new: NewPeriods) -> None:
        self._new = new
        self._started: dict[str, set[str]] = {}
        self._later: dict[str, set[str]] = {}
        self.waiting: dict[str, str] = {}

    def has_room(self, address: str) -> bool:
        """Return whether a job may start: it is not new, or its period fits."""
        job, period = self._new.jobs.get(address, ("", ""))
        started = self._started.setdefault(job, set())
        if not period or period in started or len(started) < self._new.limit:
            return True
        self._later.setdefault(job, set()).add(period)
        return False

    def start(self, address: str) -> None:
        """Count a job's period."""
        if address in self._new.jobs:
            job, period = self._new.jobs[address]
            self._started.setdefault(job, set()).add(period)

    def wait(self, address: str, reason: str) -> None:
        """Record that a job waits for input. Its period counts for no limit, to hold back no later one."""
        self.waiting[address] = reason

    def later(self) -> tuple[str, ...]:
        """Return a sentence for each job with waiting periods."""
        return tuple(
            f"{job.partition('[')[0]}: {len(periods):,} more due {'period' if len(periods) == 1 else 'periods'} "
            f"({min(periods)} to {max(periods)}); apply again, or raise `--limit`"
            for job, periods in sorted(self._later.items())
        )


@dataclass(frozen=True, slots=True)
class Selected:
    """A command's jobs, and the project with them. `notes` are for people."""

    project: Project
    jobs: tuple[JobSpec, ...]
    new: NewPeriods
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A job that may be chosen. `maker` is its spec; `values` are None if that is the job itself."""

    address: str
    maker: JobSpec
    values: Mapping[str, Scalar] | None = None
    state: PartitionState | None = None
    period: str = ""
    """The period to start, of a partition that no lockfile records."""

    @property
    def order(self) -> tuple[str, str]:
        axes = self.maker.axes
        return (str((self.values or {}).get(axes.period, "")) if axes.period else "", self.address)

    def matched(self, patterns: Iterable[str]) -> bool:
        waiting = bool(self.period)
        return any(matches(p, self.maker, self.address, self.state, waiting=waiting) for p in patterns)


def select(project: Project, choice: Choice, scope: Scope, environ: Mapping[str, str], now: datetime) -> Selected:
    """Return the jobs that a command is about. Raises BatchspecError for a pattern without a match.

    `now` decides which periods have ended, unless the choice does.
    """
    partitioned = [job for job in (*project.unbound, *project.jobs) if job.partition]
    choice.check(project.variables, {job.axes.period for job in partitioned if job.axes.period})
    if not (partitioned or choice.select or choice.exclude):
        return Selected(project, project.jobs, NewPeriods(choice.limit))
    return _Selecting(project, choice, scope, environ, choice.now or now).run()


def may_wait(context: Context, spec: JobSpec, creates: Sequence[Create]) -> bool:
    """Return whether a job without input is a period that never started. `creates` are in the ledger."""
    if spec.axes.schedule is None or spec.job.input.empty == "error" or creates:
        return False
    return frozenset(context.lockfile(spec.lock_path).addresses()).isdisjoint(context.names(spec))


class _Selecting:
    def __init__(
        self, project: Project, choice: Choice, scope: Scope, environ: Mapping[str, str], now: datetime
    ) -> None:
        self._project, self._choice, self._scope, self._environ, self._now = project, choice, scope, environ, now
        self._makers = (*project.unbound, *(job for job in project.jobs if job.partition))
        about_states = any(pattern.startswith("state:") for pattern in (*choice.select, *choice.exclude))
        self._recorded = RecordedPartitions(project, read=bool(self._makers) or about_states)
        self._warnings: list[Problem] = []
        self._notes: list[str] = []

    def run(self) -> Selected:
        choice = self._choice
        bound = [
            _Candidate(job.address, job, None, self._recorded.states.get(job.address)) for job in self._project.jobs
        ]
        known = {one.address: one for one in (*self._partitions(), *bound)}
        self._add_named(known)
        self._check_patterns(list(known.values()))
        partitions = sorted((one for one in known.values() if one.values is not None), key=lambda one: one.order)
        chosen = [one for one in (*bound, *partitions) if self._is_chosen(one)]
        if choice.exclude and not chosen:
            raise BatchspecError("`--exclude` leaves no job", code="BS801")
        self._check_values(chosen)
        specs = [spec for one in chosen if (spec := self._bound(one)) is not None]
        new = {one.address: (one.maker.address, one.period) for one in chosen if one.period}
        self._add_notes(chosen)
        every = {spec.address: spec for spec in (*self._project.jobs, *specs)}
        warnings = (*self._project.warnings, *self._warnings)
        project = replace(self._project, jobs=tuple(every.values()), warnings=warnings)
        return Selected(project, tuple(specs), NewPeriods(choice.limit, new), tuple(self._notes))

    def _partitions(self) -> Iterator[_Candidate]:
        other_spelling: list[Problem] = []
        due = self._choice.due or any(pattern == "state:waiting" for pattern in self._choice.select)
        for maker in self._makers:
            recorded = self._recorded.partitions_of(maker, self._project.variables)
            if self._scope is Scope.RUN:
                other_spelling += respelled(maker, recorded)
            yield from (_Candidate(one.address, maker, one.values, one.state) for one in recorded)
            if self._scope is not Scope.RECORDED and maker.missing_vars:
                yield from self._startable(maker, {one.address for one in recorded}, due=due)
        if other_spelling:
            raise SpecError(other_spelling)

    def _startable(self, maker: JobSpec, recorded: Collection[str], *, due: bool) -> Iterator[_Candidate]:
        if any(problem.code != "BS131" for problem in maker.missing_vars):
            return
        given = self._project.variables
        axes = maker.axes
        if any(not given.get(name) for name in axes.free):
            return
        lists: dict[str, Sequence[Scalar]] = {
            name: [value for value in values if given.get(name) in {None, "", address_value(value)}]
            for name, values in axes.fixed.items()
        }
        named: Iterable[tuple[str, dict[str, Scalar]]] = [("", {})]
        if axes.schedule is not None:
            periods = self._choice.periods(axes.schedule, self._now) if due else ()
            chosen = given.get(axes.period)
            named = (
                [("", {axes.period: chosen})] if chosen else [(one.name, {axes.period: one.name}) for one in periods]
            )
        for (period, values), combination in itertools.product(named, itertools.product(*lists.values())):
            whole = values | dict(zip(lists, combination, strict=True))
            whole |= {name: given[name] for name in axes.names if name not in whole}
            address = address_of(maker.job.name, {**matrix_values(maker), **whole})
            if address not in recorded:
                yield _Candidate(address, maker, whole, None, period)

    def _add_named(self, known: dict[str, _Candidate]) -> None:
        for pattern in self._choice.select:
            if not is_exact(pattern) or "[" not in pattern or pattern in known:
                continue
            name, values = split_address(pattern)
            for maker in self._makers:
                base, axes = split_address(maker.address)
                own = {axis: value for axis, value in axes.items() if axis not in maker.partition}
                rest = {axis: value for axis, value in values.items() if axis not in own}
                if base == name and own.items() <= values.items() and rest.keys() == set(maker.partition):
                    known[pattern] = _Candidate(pattern, maker, rest)

    def _is_chosen(self, one: _Candidate) -> bool:
        choice = self._choice
        if one.matched(choice.exclude):
            return False
        if choice.select and not one.matched(choice.select):
            return False
        if one.values is None or self._scope is Scope.RECORDED:
            return True
        about = one.matched(pattern for pattern in choice.select if names_partitions(pattern))
        if self._scope is Scope.GIVEN:
            return about or self._has_period(one.maker)
        if one.state is None:
            return choice.due or about or self._has_period(one.maker)
        if one.state is PartitionState.OPEN or choice.closed or one.address in choice.named:
            return True
        asked_again = one.state is PartitionState.CLOSED_FAILED and one.matched(choice.named)
        return asked_again or (about and not choice.due)

    def _has_period(self, maker: JobSpec) -> bool:
        return bool(maker.axes.period) and bool(self._project.variables.get(maker.axes.period))

    def _check_values(self, chosen: Sequence[_Candidate]) -> None:
        """Raise SpecError for a job without a value, and for a period that has not ended."""
        has = {one.maker.address for one in chosen}
        missing: list[Problem] = []
        for maker in self._project.unbound:
            if self._choice.select and not _Candidate(maker.job.name, maker).matched(self._choice.select):
                continue
            wrong = [problem for problem in maker.missing_vars if problem.code != "BS131"]
            asks = self._scope is Scope.GIVEN and maker.address not in has
            missing += wrong or (maker.missing_vars if asks else ())
        if self._scope is not Scope.RECORDED:
            missing += [problem for one in chosen if one.state is None for problem in self._not_ended(one)]
        if missing:
            raise SpecError(missing)

    def _not_ended(self, one: _Candidate) -> Iterator[Problem]:
        axes = one.maker.axes
        if axes.schedule is None or one.period:
            return
        value = str((one.maker.values if one.values is None else one.values).get(axes.period, ""))
        try:
            period = axes.schedule.period(value)
        except PeriodError:
            return
        if period.ends > self._now:
            message = (
                f"{axes.period}={value}: this {axes.schedule.every} has not ended; it ends at {period.ends:%FT%TZ}"
            )
            yield one.maker.problem(message, "partition", axes.period, code="BS135")

    def _bound(self, one: _Candidate) -> JobSpec | None:
        """Return a candidate's job. A recorded one that the spec refuses is a warning."""
        if one.values is None:
            return one.maker
        try:
            return bind(self._project, one.maker, one.values, self._environ, recorded=one.state is not None)
        except SpecError as error:
            if one.state is None and not self._choice.may_miss:
                raise
            self._warnings += [
                replace(problem, message=f"{one.address}: {problem.message}") for problem in error.problems
            ]
            return None

    def _check_patterns(self, known: Sequence[_Candidate]) -> None:
        makers = [_Candidate(maker.job.name, maker) for maker in self._makers]
        for pattern in () if self._choice.may_miss else self._choice.select:
            quiet = self._choice.due and pattern.startswith("state:")  # nothing may be due now
            if not quiet and not any(one.matched([pattern]) for one in (*known, *makers)):
                raise self._no_match(pattern, known)
        names = {one.maker.job.name for one in (*known, *makers)}
        for pattern in self._choice.exclude:
            if is_exact(pattern) and pattern.partition("[")[0] not in names:
                raise self._no_match(pattern, known)

    def _no_match(self, pattern: str, known: Sequence[_Candidate]) -> BatchspecError:
        addresses = [one.address for one in known]
        names = sorted(
            {*addresses, *(maker.job.name for maker in self._makers), *(one.maker.job.name for one in known)}
        )
        if not is_exact(pattern):
            starts = any(maker.axes.schedule for maker in self._makers) and not self._choice.due
            hint = "`--due` starts new periods" if starts else "`batchspec status` lists the jobs"
            return BatchspecError(f"no job matches {pattern}", hint=hint, code="BS801")
        more = f" and {len(addresses) - 20} more" if len(addresses) > 20 else ""
        hint = did_you_mean(pattern, names) or f"the jobs are: {', '.join(addresses[:20]) or 'none'}{more}"
        return BatchspecError(f"there is no job {pattern}", hint=hint, code="BS801")

    def _add_notes(self, chosen: Sequence[_Candidate]) -> None:
        if self._scope is Scope.GIVEN or self._choice.exclude:
            return
        has = {one.maker.address for one in chosen}
        for maker in self._project.unbound:
            asked = not self._choice.select or _Candidate(maker.job.name, maker).matched(self._choice.select)
            chosen_here = maker.address in has and (self._scope is Scope.RECORDED or self._has_period(maker))
            if not asked or chosen_here or self._choice.due:
                continue
            option = "--var" if maker.axes.free else "--due"
            if self._scope is Scope.RECORDED:
                what = f"no lockfile records a partition of it yet; `apply {option}` creates the first"
                self._notes.append(f"{maker.job.name}: {what}")
            elif maker.axes.schedule is not None:
                recorded = {one.address for one in self._recorded.partitions_of(maker, self._project.variables)}
                count = sum(1 for _ in self._startable(maker, recorded, due=True))
                if count:
                    noun = "partition is" if count == 1 else "partitions are"
                    self._notes.append(f"{maker.job.name}: {count:,} {noun} due; `apply --due` starts them")
            elif maker.address not in has:
                self._notes.append(f"{maker.job.name}: no partition is open; `apply {option}` starts one")
