"""Advance all jobs under their lockfiles' locks, wait without a lock, and repeat."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from runner.base.log_context import bind
from runner.context import Context
from runner.executor.in_flight import InFlightLimit
from runner.executor.job_run import JobRun
from runner.executor.outcome import Outcome, RenderedJob
from runner.executor.poll import Poller
from runner.reconciler.observe.batch_list import MAX_AGE, BatchListCache
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.state.ledger import Ledger
from runner.state.locks import is_held, lock_holder, write_lock


class Interrupted(KeyboardInterrupt):
    """Ctrl-C. Everything known is on disk; `outcomes` have the batches in flight."""

    def __init__(self, outcomes: tuple[Outcome, ...]) -> None:
        super().__init__()
        self.outcomes = outcomes


def apply(
    context: Context,
    jobs: Sequence[RenderedJob],
    options: ApplyOptions,
    limits: Mapping[str, PlanLimits],
    *,
    waiting: bool = True,
    deadline: datetime | None = None,
    in_flight: InFlightLimit | None = None,
) -> tuple[Outcome, ...]:
    """Carry out the plan for all jobs, within their `limits`. A failed job stops no other.

    If not `waiting`, return once everything possible is submitted. Raises Interrupted.
    """
    in_flight = in_flight or InFlightLimit(context.project.settings.max_in_flight)
    runs = [JobRun(context, job, options, limits.get(job.desired.spec.address), in_flight) for job in jobs]
    poller = Poller(context)
    try:
        while True:
            _advance_all(context, [run for run in runs if run.outcome is None])
            blocked = [run.blocked for run in runs if run.outcome is None and run.blocked is not None]
            if not waiting:
                blocked = [one for one in blocked if one.settles]
            if blocked and poller.wait_before_retry(blocked, deadline):
                continue
            if blocked and poller.is_over(deadline):
                break
            _abandon_blocked(context, runs)
            targets = [run.poll_target() for run in runs if run.outcome is None]
            if not targets or not waiting or not poller.wait_for_any(targets, deadline):
                break
    except KeyboardInterrupt:
        raise Interrupted(tuple(run.snapshot() for run in runs)) from None
    return tuple(run.snapshot() for run in runs)


def _abandon_blocked(context: Context, runs: Sequence[JobRun]) -> None:
    for run in runs:
        if run.outcome is None and run.blocked is not None:
            run.abandon()
            _report_end(context, run)


def _advance_all(context: Context, runs: Sequence[JobRun]) -> None:
    groups: dict[Path, list[JobRun]] = {}
    for run in runs:
        groups.setdefault(context.places.lock(run.lock_path), []).append(run)
    context.look_again()
    lists = BatchListCache(context.now, MAX_AGE)
    for lock in sorted(groups, key=is_held):
        with write_lock(lock, waiting=_report_lock(context, lock, lists)):
            ledger = Ledger(context.places.ledger)
            try:
                for run in groups[lock]:
                    with bind(job=run.address):
                        run.advance(ledger, lists)
                        _report_end(context, run)
            finally:
                ledger.close()


def _report_end(context: Context, run: JobRun) -> None:
    if run.outcome is not None:
        context.watcher.event("job.ended", job=run.address, end=run.outcome.end)


@contextlib.contextmanager
def _report_lock(context: Context, lock: Path, lists: BatchListCache) -> Iterator[None]:
    context.watcher.event("lock.waiting", holder=lock_holder(lock))
    yield
    lists.forget()
    context.look_again()
