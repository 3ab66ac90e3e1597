"""Fetch one job's results in parallel, and record how each batch ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from runner.base.log_context import wrap
from runner.context import Context
from runner.errors import NotFound, NotReady, ProviderError, RateLimited, ServerError, Unreachable
from runner.executor.fetch import NotVisibleYet, fetch_batch
from runner.executor.lockfile_writer import LockfileWriter
from runner.executor.threads import TransferProgress, run_tasks
from runner.jobspec.loader import JobSpec
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batches import BatchRecord, ResultState, ended_line, mark_results_gone
from runner.reconciler.observe.observe import Observed
from runner.reconciler.plan.job_estimate import with_cost
from runner.reconciler.plan.plan import Fetch
from runner.state.lockfile_lines import BatchLine
from runner.state.results import CustomIdMap, ResultIndex


class ResultFetcher:
    """Fetches of one job. `gone`: batches that lost their results."""

    def __init__(self, context: Context, spec: JobSpec, writer: LockfileWriter) -> None:
        self.gone: set[str] = set()
        self._context = context
        self._spec = spec
        self._writer = writer
        self._tried: set[str] = set()
        self._deferred: list[ProviderError] = []
        self._reported: set[str] = set()
        self._ended_by: dict[str, datetime] = {}

    def reset(self) -> None:
        """Allow new fetches."""
        self._tried.clear()

    def fetch(self, seen: Observed, *, needed: bool) -> bool:
        """Fetch results `needed` to plan, or all. Return whether any are new.

        Raises ProviderError without needed results.
        """
        wanted = list(self._wanted(seen, needed))
        moved, read = (
            TransferProgress(partial(self._context.watcher.progress, f"{verb} {self._spec.address}"), parts=len(wanted))
            for verb in ("fetch", "index")
        )
        tasks = [
            wrap(partial(self._fetch_batch, seen, known, needed, moved, read), batch=known.line.batch)
            for known in wanted
        ]
        fetched = False
        self._deferred.clear()
        try:
            for line in run_tasks(tasks):
                if line is not None:
                    self._writer.add(line, pinned=False)
                fetched |= line is not None or needed
        finally:
            self._writer.flush()
        moved.end()
        read.end()
        if self._deferred and needed:
            raise self._deferred[0]
        return fetched

    def _wanted(self, seen: Observed, needed: bool) -> Iterator[BatchRecord]:
        planned = {action.batch for action in seen.plan.actions if isinstance(action, Fetch)}
        for known in seen.batches:
            if not known.ended or known.line.batch in self._tried:
                continue
            missing = known.index is None and (known.line.batch in planned if needed else not known.line.gone)
            found = known.index is not None and known.remote is not None and known.line.gone
            incomplete = known.results is ResultState.INCOMPLETE
            if missing or incomplete or found or (known.index is not None and not known.line.ended):
                yield known

    def _fetch_batch(
        self, seen: Observed, known: BatchRecord, needed: bool, moved: TransferProgress, read: TransferProgress
    ) -> BatchLine | None:
        batch = known.line.batch
        self._tried.add(batch)
        try:
            return self._fetched_line(seen, known, moved, read)
        except (NotFound, NotVisibleYet) as error:
            if known.index is not None:
                recorded = known.line.ended or not known.missing_at_service
                return None if recorded else mark_results_gone(known.line, known.remote)
            if isinstance(error, NotVisibleYet):
                self._defer(batch, error)
                return None
            self.gone.add(batch)
            if needed and not known.line.gone:
                self._context.watcher.event("results.gone", job=self._spec.address, batch=batch, reason=error.message)
            return mark_results_gone(known.line, known.remote)
        except (Unreachable, ServerError, RateLimited):
            self._tried.discard(batch)
            raise
        except ProviderError as error:
            self._defer(batch, error)
            return None

    def _fetched_line(
        self, seen: Observed, known: BatchRecord, moved: TransferProgress, read: TransferProgress
    ) -> BatchLine:
        batch = known.line.batch
        remote = self._refresh(known)
        index = known.index
        if index is not None and known.line.gone:
            self._context.api(self._spec).results(batch)  # raises NotFound if the service still has no results
        if index is None or known.results is ResultState.INCOMPLETE:
            index = fetch_batch(
                self._context,
                self._spec.profile,
                seen.realm.results,
                remote,
                CustomIdMap(known.sent_keys(), seen.realm.results.imported_ids(batch)),
                partial(moved.add, part=batch),
                partial(read.add, part=batch),
                ended_by=self._ended_by.setdefault(batch, self._context.now()),
                gone_before=known.line.gone,
            )
        pins = seen.lockfile.pins.get(known.line.pins or "")
        line = ended_line(known.line, remote, index)
        line = with_cost(line, pins, self._spec.job, self._context.project.settings)
        if index is not known.index:
            self._report_failure(batch, index)
            self._context.watcher.event(
                "batch.fetched",
                job=self._spec.address,
                batch=batch,
                state=remote.status,
                answers=index.summary.answers,
                failed=index.summary.failures,
                cost=line.cost,
            )
        return line

    def _report_failure(self, batch: str, index: ResultIndex) -> None:
        for reason in index.summary.failure[:1]:
            if reason not in self._reported:
                self._reported.add(reason)
                self._context.watcher.event("batch.failed", job=self._spec.address, batch=batch, reason=reason)

    def _defer(self, batch: str, error: ProviderError) -> None:
        self._tried.discard(batch)
        self._deferred.append(error)

    def _refresh(self, known: BatchRecord) -> RemoteBatch:
        """Return the batch as it is now: an incomplete one's details decide what is resubmitted."""
        listed = known.remote
        if listed is not None and listed.status == "completed":
            return listed
        remote = self._context.api(self._spec).get_batch(known.line.batch)
        if remote.ended:
            return remote
        if listed is None or not listed.ended:
            raise NotReady(
                f"batch {remote.batch_id} had ended, and now the service reports it {remote.status}", status=200
            )
        return listed
