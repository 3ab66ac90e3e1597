"""Apply: a round through all jobs under their lockfiles' locks, a wait without any, and again until all have ended.

Each round reads everything afresh. What is done for one job stands in `runner.executor.job_run`.
"""

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
    """Somebody stopped the wait. Everything known is on disk; `outcomes` says what goes on at the service."""

    def __init__(self, outcomes: tuple[Outcome, ...]) -> None:
        super().__init__()
        self.outcomes = outcomes


def apply(
    context: Context,
    jobs: Sequence[RenderedJob],
    word: ApplyOptions,
    ceilings: Mapping[str, PlanLimits],
    *,
    waiting: bool = True,
    deadline: datetime | None = None,
) -> tuple[Outcome, ...]:
    """Do what the plan says for all jobs, and no more than `ceilings` allow; one that fails stops none of the others.

    With `waiting` False it returns once everything that can be submitted is. Raises Interrupted on Ctrl-C.
    """
    flight = InFlightLimit(context.project.settings.max_in_flight)
    runs = [JobRun(context, job, word, ceilings.get(job.desired.spec.address), flight) for job in jobs]
    waits = Poller(context)
    try:
        while True:
            _round(context, [run for run in runs if run.outcome is None])
            stalls = [run.stalled for run in runs if run.outcome is None and run.stalled is not None]
            if not waiting:
                stalls = [stall for stall in stalls if stall.settles]
            if stalls and waits.wait_before_retry(stalls, deadline):
                continue
            if stalls and waits.is_over(deadline):
                break
            for run in runs:
                if run.outcome is None and run.stalled is not None:
                    run.abandon()
                    _tell_end(context, run)
            awaited = [run.awaited() for run in runs if run.outcome is None]
            if not awaited or not waiting or not waits.wait_for_any(awaited, deadline):
                break
    except KeyboardInterrupt:
        raise Interrupted(tuple(run.left() for run in runs)) from None
    return tuple(run.left() for run in runs)


def _round(context: Context, runs: Sequence[JobRun]) -> None:
    """One round through all jobs, those of one lockfile under its lock; what somebody else is writing comes last."""
    groups: dict[Path, list[JobRun]] = {}
    for run in runs:
        groups.setdefault(context.places.lock(run.lock_path), []).append(run)
    lists = BatchListCache(context.now, MAX_AGE)
    for lock in sorted(groups, key=is_held):
        with write_lock(lock, waiting=_telling(context, lock, lists)):
            ledger = Ledger(context.places.ledger)
            try:
                for run in groups[lock]:
                    with bind(job=run.address):
                        run.attempt(ledger, lists)
                        _tell_end(context, run)
            finally:
                ledger.close()


def _tell_end(context: Context, run: JobRun) -> None:
    if run.outcome is not None:
        context.watcher.event("job.ended", job=run.address, end=run.outcome.end)


@contextlib.contextmanager
def _telling(context: Context, lock: Path, lists: BatchListCache) -> Iterator[None]:
    """While another process writes. What was read before is read again."""
    context.watcher.event("lock.waiting", holder=lock_holder(lock))
    yield
    lists.forget()
