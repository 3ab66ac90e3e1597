"""Renders a started partition as it started: by its kept requests, else by the spec and templates of its commit.

See docs/decisions/0071-pins-of-open-partitions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from runner.context import Context
from runner.errors import BatchspecError, InputError
from runner.executor.creates import creates_of
from runner.executor.outcome import RenderedJob
from runner.jobspec.loader import JobSpec
from runner.operations.closed_partitions import PartitionStates
from runner.operations.earlier_spec import earlier, pinned_commit
from runner.planner.kept import KeptRequests, at_pins, load_kept
from runner.planner.render import Desired
from runner.planner.spool.pins import pins_of
from runner.planner.spool.spool import SpoolWriter
from runner.reconciler.observe.lockfile_pins import pins_line
from runner.reconciler.observe.observe import ApplyOptions, job_lockfile
from runner.reconciler.plan.partition_state import PartitionState, Waits, fixed_pins, same_question
from runner.reconciler.plan.reasons import why_new
from runner.state.ledger import Create
from runner.state.lockfile_lines import PinsLine

Render = Callable[[JobSpec, Path | None], Desired]
"""Renders a job, with templates of another folder than the project's if one is given. Raises BatchspecError."""


@dataclass(frozen=True, slots=True)
class PartitionJobs:
    """Renders partitions for one command. `commit` is today's; `scratch` makes a path for a new folder."""

    context: Context
    render: Render
    commit: str
    scratch: Callable[[], Path]
    states: PartitionStates

    def prepare(self, spec: JobSpec, options: ApplyOptions) -> RenderedJob:
        """Return a partition as it started, or why it waits; as it is today before its first create or if reopened.

        Other jobs are as they are today. Raises BatchspecError.
        """
        if not spec.partition:
            return self._job(self.render(spec, None))
        closed = not options.reopen and self.states.state(spec) is not PartitionState.OPEN
        job = self._prepare(spec, creates_of(self.context, spec), reopen=options.reopen, closed=closed)
        return replace(job, restores=closed and spec.address not in options.retry_failed | options.ask_unknown)

    def _prepare(self, spec: JobSpec, creates: tuple[Create, ...], *, reopen: bool, closed: bool) -> RenderedJob:
        """Prepare a partition; a `closed` one must have exactly its former requests."""
        fixed, kept, started = self._started(spec, creates)
        today: RenderedJob | None = None
        problem: BatchspecError | None = None
        try:
            today = self._job(self.render(spec, None))
        except BatchspecError as error:
            if reopen or not started:
                raise
            problem = error
        if today is not None and (reopen or fixed is None or today.pins.pins == fixed.pins):
            return today
        if kept is not None:
            return RenderedJob(kept.desired, kept.pins)
        then = None if fixed is None else self._at_commit(spec, fixed)
        if isinstance(then, InputError):
            problem = problem or then
        for job in (then, today):
            if isinstance(job, RenderedJob) and fixed is not None:
                same = job.pins.requests == fixed.requests
                if same or (not closed and same_question(job.pins, fixed)):
                    return job
        return self._waiting(spec, fixed, today, problem)

    def _started(self, spec: JobSpec, creates: tuple[Create, ...]) -> tuple[PinsLine | None, KeptRequests | None, bool]:
        """Return the fixed pins, the requests kept under them, and whether anything was created."""
        lockfile = job_lockfile(self.context, spec)
        fixed = fixed_pins(lockfile, spec.address)
        names = frozenset(lockfile.aliases(spec.address))
        started = fixed is not None or any(create.state != "refused" for create in creates)
        started = started or any(batch.job in names for batch in lockfile.batches.values())
        if not started:
            return None, None, False
        kept = load_kept(self.context.places.kept(spec.address), spec, self.context.project.root, self.scratch())
        if kept is not None and fixed is not None and kept.pins.pins != fixed.pins:
            kept = None
        if kept is not None and fixed is None:
            fixed = kept.pins
        return fixed, kept, True

    def _at_commit(self, spec: JobSpec, fixed: PinsLine) -> RenderedJob | InputError | None:
        folder = self.scratch()
        try:
            found = earlier(self.context.project, spec, pinned_commit(self.context.project.root, fixed), folder)
            if found is None:
                return None
            return self._job(self.render(at_pins(spec, found.job, found.schema), folder))
        except InputError as error:
            return error
        except (BatchspecError, OSError):
            return None

    def _job(self, desired: Desired) -> RenderedJob:
        return RenderedJob(desired, pins_line(desired, self.commit))

    def _waiting(
        self, spec: JobSpec, fixed: PinsLine | None, today: RenderedJob | None, problem: BatchspecError | None
    ) -> RenderedJob:
        if today is not None:
            what = "template" if fixed is not None and today.pins.templates != fixed.templates else "spec"
            if fixed is not None and same_question(today.pins, fixed):
                what = "input"
            reason = f"its {what} changed ({why_new(fixed, today.pins)})"
            return RenderedJob(today.desired, today.pins, waits=Waits(reason))
        gone = isinstance(problem, InputError)
        first = problem.message.partition("\n")[0] if problem is not None else ""
        reason = f"its input is gone ({first})" if gone else f"its template changed ({first})"
        desired = self._without_rows(spec)
        return RenderedJob(desired, pins_line(desired, self.commit), waits=Waits(reason, gone))

    def _without_rows(self, spec: JobSpec) -> Desired:
        with SpoolWriter(self.scratch()) as writer:
            spool = writer.finish(spec.job.replicates, dedupe=spec.job.dedupe, numbered=not spec.job.input.id_columns)
        nothing = "0" * 64
        return Desired(spec, self.context.project.root, spool, pins_of(spec, {}, nothing, 0, nothing))
