"""Collecting what ended batches of one job have answered: fetched beside each other, indexed, noted in the lockfile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from runner.base.log_context import wrap
from runner.context import Context
from runner.errors import NotFound, NotReady, ProviderError, RateLimited, ServerError, Unreachable
from runner.executor.fetch import fetch
from runner.executor.lockfile_writer import LockfileWriter
from runner.executor.threads import TransferProgress, run_tasks
from runner.jobspec.loader import JobSpec
from runner.providers.protocol import RemoteBatch
from runner.reconciler.observe.batches import BatchRecord, ResultState, ended_line, mark_results_gone
from runner.reconciler.observe.consistency import results_settled
from runner.reconciler.observe.observe import Observed
from runner.reconciler.plan.job_estimate import with_cost
from runner.reconciler.plan.plan import Fetch
from runner.state.lockfile_lines import BatchLine
from runner.state.results import CustomIdMap, ResultIndex


class ResultFetcher:
    """Collects for one job. `gone` are batches whose results the service has turned out not to have."""

    def __init__(self, context: Context, spec: JobSpec, record: LockfileWriter) -> None:
        self.gone: set[str] = set()
        self._context = context
        self._spec = spec
        self._record = record
        self._tried: set[str] = set()
        self._late: list[ProviderError] = []
        self._said: set[str] = set()
        self._ended_at: dict[str, datetime] = {}

    def again(self) -> None:
        """Fetch what is needed again, also what was fetched before."""
        self._tried.clear()

    def collect(self, seen: Observed, *, needed: bool) -> bool:
        """Fetch results: those that are needed, or also those that the output alone holds, before it is rewritten."""
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
        self._late.clear()
        try:
            for line in run_tasks(tasks):
                if line is not None:
                    self._record.add(line, pinned=False)
                fetched |= line is not None or needed
        finally:
            self._record.save()
        moved.end()
        read.end()
        if self._late and needed:
            raise self._late[0]
        return fetched

    def _wanted(self, seen: Observed, needed: bool) -> Iterator[BatchRecord]:
        """Ended batches to fetch; those that came short are tried once more in each apply."""
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
        api = self._context.api(self._spec)
        batch = known.line.batch
        self._tried.add(batch)
        settled = True
        try:
            remote = self._refresh(known)
            settled = known.line.gone or self._is_settled(remote)
            index = known.index
            if index is not None and known.line.gone:
                api.results(batch)  # what is here says nothing of what the service has
            if index is None or known.results is ResultState.INCOMPLETE:
                tell = partial(moved.add, part=batch), partial(read.add, part=batch)
                mapping = CustomIdMap(known.sent_keys(), seen.realm.results.imported_ids(batch))
                index = fetch(api, seen.realm.results, remote, mapping, *tell, settled=settled)
            made = seen.lockfile.pins.get(known.line.pins or "")
            line = ended_line(known.line, remote, index)
            line = with_cost(line, made, self._spec.job, self._context.project.settings)
            if index is not known.index:
                self._tell_failure(batch, index)
                self._context.watcher.event(
                    "batch.fetched",
                    job=self._spec.address,
                    batch=batch,
                    state=remote.status,
                    answers=index.summary.answers,
                    failed=index.summary.failures,
                    cost=line.cost,
                )
        except NotFound as error:
            if known.index is not None:
                recorded = known.line.ended or not known.missing_at_service
                return None if recorded else mark_results_gone(known.line, known.remote)
            if not settled:
                self._defer(batch, NotReady(error.message, status=error.status, error_id=error.error_id))
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
        else:
            return line

    def _tell_failure(self, batch: str, index: ResultIndex) -> None:
        """Say why a batch failed as a whole, each cause once."""
        for reason in index.summary.failure[:1]:
            if reason not in self._said:
                self._said.add(reason)
                self._context.watcher.event("batch.failed", job=self._spec.address, batch=batch, reason=reason)

    def _defer(self, batch: str, error: ProviderError) -> None:
        """One batch's results can't be had now: the others are fetched all the same."""
        self._tried.discard(batch)
        self._late.append(error)

    def _refresh(self, known: BatchRecord) -> RemoteBatch:
        """A batch as it is now. What the list says of one that did not complete decides what is asked again."""
        listed = known.remote
        if listed is not None and listed.status == "completed":
            return listed
        remote = self._context.api(self._spec).get_batch(known.line.batch)
        if remote.ended:
            return remote
        if listed is None or not listed.ended:
            raise NotReady(f"batch {remote.batch_id} has ended, and now it is said to be {remote.status}", status=200)
        return listed

    def _is_settled(self, remote: RemoteBatch) -> bool:
        """Whether it is so long since a batch ended, or was first seen to have, that what it has shows everywhere."""
        since = None if remote.ended_at else self._ended_at.setdefault(remote.batch_id, self._context.now())
        return results_settled(self._spec.profile.kind, remote, since, self._context.now())
