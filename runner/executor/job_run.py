"""Carry out one job's plan, observing again after each effect.

Each effect is recorded before the next begins, so a later apply can continue after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from runner.base.humanize import counted
from runner.context import Context
from runner.errors import (
    BatchspecError,
    NotReady,
    RateLimited,
    ServerError,
    Unreachable,
    disk_error,
    with_code,
)
from runner.executor.grant import record_grant
from runner.executor.in_flight import InFlightLimit
from runner.executor.lockfile_writer import LockfileWriter
from runner.executor.observe_job import observe_job
from runner.executor.outcome import End, Outcome, Paid, RenderedJob
from runner.executor.poll import Blocked, BlockedError, PollTarget
from runner.executor.recover import recover_answers
from runner.executor.result_fetcher import ResultFetcher
from runner.executor.save_recovered import save_recovered
from runner.executor.submit_action import Submitter
from runner.outputs.writer import write_output
from runner.planner.kept import drop as drop_kept
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batch_list import BatchListCache
from runner.reconciler.observe.observe import ApplyOptions, Observed, Resume
from runner.reconciler.plan.partition_state import Waits, closing
from runner.reconciler.plan.plan import OutputState, Submit
from runner.reconciler.plan.plan_limits import PlanLimits
from runner.state.ledger import Ledger
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import PartitionField


class JobRun:
    """One job in an apply. `outcome` is None until it ends."""

    def __init__(
        self,
        context: Context,
        job: RenderedJob,
        options: ApplyOptions,
        limits: PlanLimits | None,
        in_flight: InFlightLimit,
    ) -> None:
        self.outcome: Outcome | None = None
        self.blocked: Blocked | None = None
        self._context = context
        self._job = job
        self._spec = job.desired.spec
        self._options = options
        self._codes: tuple[str, ...] = ()
        self._recovered: set[str] = set()
        self._priced: frozenset[str] | None = None
        self._seen: Observed | None = None
        self._writer = LockfileWriter(context, self._spec.lock_path, job.pins)
        self._fetcher = ResultFetcher(context, self._spec, self._writer)
        self._limits = limits
        self._submitter = Submitter(context, job, options, limits, in_flight, self._writer)

    @property
    def address(self) -> str:
        """The job's address."""
        return self._spec.address

    @property
    def lock_path(self) -> str:
        """Path of the lockfile in the project."""
        return self._spec.lock_path

    def advance(self, ledger: Ledger, lists: BatchListCache) -> None:
        """Do everything that can be done now. An error ends this job only."""
        self.blocked = None
        try:
            self._advance(ledger, lists)
        except BlockedError as error:
            self.blocked = error.blocked
        except NotReady as error:
            self.blocked = Blocked(self.address, error.message, event="results.late", code=error.code)
        except (Unreachable, ServerError, RateLimited) as error:
            # A job that was observed once waits for the service to come back. Without that, the error is final.
            seconds = getattr(error, "retry_after", None) or 0.0
            self.blocked = Blocked(self.address, error.message, seconds, code=error.code)
            if self._seen is None:
                self.abandon()
        except BatchspecError as error:
            self._fail(error)
        except OSError as error:
            self._fail(disk_error(error))

    def abandon(self) -> None:
        """End a blocked job; the next apply continues it."""
        assert self.blocked is not None
        self._codes = (self.blocked.code,)
        self.outcome = self._ended("error", with_code(self.blocked.reason, self.blocked.code))

    def poll_target(self) -> PollTarget:
        """Return the batches to wait for."""
        api, running = self._context.api(self._spec), frozenset(self._running())
        return PollTarget(self.address, self._spec.profile.kind, api, running, self._submitter.wake)

    def snapshot(self) -> Outcome:
        """Return the outcome as it is now."""
        if self.outcome is None and self._submitter.out_of_money is not None:
            self._fail(self._submitter.out_of_money)
        return self.outcome or self._ended("running", self._submitter.queue_full)

    def _fail(self, error: BatchspecError) -> None:
        self._codes = error.codes
        hint = f"\n    {error.hint}" if error.hint else ""
        self.outcome = self._ended("error", f"{error.coded()}{hint}")

    def _ended(self, end: End, message: str = "") -> Outcome:
        plan = self._seen.plan if self._seen else None
        running = self._running() if end in {"running", "error"} else ()
        codes = self._codes if end == "error" else ()
        batches = self._seen.batches if self._seen else ()
        paid = Paid.of(batches, self._submitter.sent, self._priced or (), self._job.estimate)
        return paid.into(Outcome(self.address, end, plan, message, self._submitter.submitted, running, codes))

    def _running(self) -> tuple[str, ...]:
        ended = dict.fromkeys(self._submitter.sent, False)
        if self._seen is not None:
            ended |= {known.line.batch: known.ended for known in self._seen.batches}
        return tuple(batch for batch, has_ended in ended.items() if not has_ended)

    def _advance(self, ledger: Ledger, lists: BatchListCache) -> None:
        api = self._context.api(self._spec)
        listed = lists.of(api)
        seen = self._observe(ledger, listed)
        self._record_grant(seen, ledger)
        while (
            self._adopt(seen)
            or self._fetch(seen)
            or self._submitter.submit(seen, ledger, listed)
            or self._recover(seen)
        ):
            listed = lists.of(api)
            seen = self._observe(ledger, listed)
        if self._submitter.out_of_money is not None and not self._running():
            raise self._submitter.out_of_money
        if not self._running() and not any(isinstance(action, Submit) for action in seen.plan.actions):
            self._finish(seen)

    def _record_grant(self, seen: Observed, ledger: Ledger) -> None:
        """Record once what this apply may submit, before its first create."""
        limits, self._limits = self._limits, None
        if limits is None or self._options.resume is not None:
            return
        if seen.plan.submits or self._running():
            record_grant(ledger, seen.realm.name, self._job, limits, self._options, self._context.now())

    def _observe(self, ledger: Ledger, listed: Mapping[str, RemoteBatch]) -> Observed:
        api = self._context.api(self._spec)
        realm = self._context.realm(self._spec)
        names = self._context.names(self._spec)
        creates = tuple(create for name in names for create in ledger.creates(realm.name, name))
        seen = observe_job(self._context, self._job, creates, listed, api, self._options, self._fetcher.gone)
        self._seen = seen
        if self._priced is None:
            self._priced = frozenset(known.line.batch for known in seen.batches if known.line.cost is not None)
        if self._options.ended is None:
            ended = frozenset(known.line.batch for known in seen.batches if known.ended)
            self._options = replace(self._options, ended=ended)
        self._submitter.observe(seen)
        return seen

    def _adopt(self, seen: Observed) -> bool:
        adopted = [known for known in seen.batches if known.adopted]
        old = self._spec.moved_from
        lockfile = self._context.lockfile(self._spec.lock_path)
        if old and old not in lockfile.aliases(self.address):
            self._context.save_lockfile(self._spec.lock_path, lockfile.with_moved(self.address, old))
            if any(known.line.job != self.address for known in seen.batches):
                self._context.watcher.event("job.renamed", job=self.address, old=old)
        for known in adopted:
            self._context.watcher.event(
                "batch.adopted", job=self.address, batch=known.line.batch, requests=known.line.requests
            )
        self._writer.flush(*(known.line for known in adopted))
        return self._context.lockfile(self._spec.lock_path) != lockfile

    def _fetch(self, seen: Observed) -> bool:
        """Fetch what decides what to submit; the rest only for a changing plan."""
        return self._fetcher.fetch(seen, needed=True) or (
            bool(seen.plan.changes) and self._fetcher.fetch(seen, needed=False)
        )

    def _recover(self, seen: Observed) -> bool:
        if seen.output_state is OutputState.GOOD or self._running() or seen.plan.submits or seen.plan.waits:
            return False
        return recover_answers(self._context, self._spec, seen, self._recovered)

    def _finish(self, seen: Observed) -> None:
        if seen.plan.waits is not None:
            self._wait(seen, seen.plan.waits)
            return
        if seen.classification.tally.in_flight:
            # Nothing runs and everything is fetched, so another process is replacing the same results right now.
            self._fetcher.reset()
            reason = "another process is writing answers that were here"
            raise BlockedError(Blocked(self.address, reason, event="results.late", code=NotReady.code))
        if text := self._held(seen):
            self.outcome = self._ended("skipped", text)
            return
        if seen.output_state is not OutputState.GOOD:
            self._write(seen)
        elif self._spec.partition:
            self._record_partition(seen)
        if self._spec.partition and not (seen.plan.tally.failed or seen.plan.tally.unknown):
            drop_kept(self._context.places.kept(self.address))
        self.outcome = self._ended("failed" if seen.plan.exceeds_tolerance else "succeeded")

    def _held(self, seen: Observed) -> str:
        resume = self._options.resume
        if resume is Resume.DOWNLOAD or (seen.plan.held_back and resume is Resume.WRITE):
            return f"{resume.value}; `batchspec apply` continues"
        if not seen.plan.asks_new and seen.plan.held_back:
            return f"{counted(seen.plan.held_back, 'request')} never asked; apply without `--no-new` submits them"
        return ""

    def _wait(self, seen: Observed, waits: Waits) -> None:
        """End a partition whose requests can't be rendered as they were; its answers are downloaded."""
        saved = save_recovered(self._context, self._spec, seen) if waits.gone else ""
        batches = ", ".join(known.line.batch for known in seen.batches) or "none"
        where = f"; its answers are in {saved}" if saved else ""
        error = BatchspecError(
            f"waits: {waits.reason}{where}; batches: {batches}",
            hint=f"restore it and apply again; or `--reopen --select {self.address}` asks with today's spec what has "
            "no answer, which may cost money",
            code="BS611" if waits.gone else "BS610",
        )
        self._fail(error)

    def _write(self, seen: Observed) -> None:
        output = self._spec.job.output
        path = self._context.places.output(output.path)
        errors = None if output.errors is None else self._context.places.output(output.errors)
        lockfile = self._context.lockfile(self._spec.lock_path)
        line = write_output(
            path,
            self._job.desired,
            seen.classification,
            self._context.watcher,
            batches=lockfile.batches,
            errors=errors,
            pins=self._job.pins.pins,
        )
        if self._spec.partition:
            line = line.model_copy(update={"partition": self._partition(lockfile, seen)})
        self._context.save_lockfile(self._spec.lock_path, lockfile.with_pins(self._job.pins).with_output(line))
        self._context.watcher.event(
            "output.written", job=self.address, path=self._context.places.shown(path), rows=line.rows
        )

    def _record_partition(self, seen: Observed) -> None:
        """Record the partition's state: later batches may have added nothing."""
        lockfile = self._context.lockfile(self._spec.lock_path)
        line = lockfile.outputs[self._spec.job.output.path]
        line = line.model_copy(update={"partition": self._partition(lockfile, seen)})
        self._context.save_lockfile(self._spec.lock_path, lockfile.with_output(line))

    def _partition(self, lockfile: Lockfile, seen: Observed) -> PartitionField:
        exceeds = seen.plan.exceeds_tolerance
        return closing(lockfile, self.address, seen.classification.tally, exceeds_tolerance=exceeds)
