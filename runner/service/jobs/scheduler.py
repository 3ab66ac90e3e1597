"""The thread that validates and runs jobs. The database is its queue, also after a crash."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from runner.http_server import logger
from runner.service.backends import Backend, make_backend
from runner.service.config import ServiceConfig
from runner.service.db.batches import Batch, Batches, Status
from runner.service.db.database import Database
from runner.service.db.files import Files
from runner.service.db.storage import Storage
from runner.service.faults.faults import Faults
from runner.service.jobs.job_run import BatchRun, Stop, defaults_of
from runner.service.jobs.validate import Rules, validate
from runner.service.loop import LoopThread

VALIDATIONS = 2
"""Jobs validated at the same time. More would only compete for the interpreter."""

SWEEP_EVERY = 60.0
"""Seconds between two deletions of expired files, unless their lifetime is shorter."""

RETRY_AFTER = (1.0, 5.0, 30.0)
"""Seconds until an interrupted job is retried, for example after a full disk. The last value repeats."""

_WAITING: tuple[Status, ...] = ("validating", "queued")
_RUNNABLE: tuple[Status, ...] = ("queued", "in_progress", "finalizing", "cancelling")


class _RetryLater(Exception):
    """The job must wait until a time (Unix seconds)."""

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until


class Scheduler:
    """Validates and runs jobs in its own thread, which calls `on_webhook`."""

    def __init__(self, config: ServiceConfig, storage: Storage, faults: Faults, on_webhook: Callable[[], None]) -> None:
        self._config = config
        self._on_webhook = on_webhook
        self._storage = storage
        self._faults = faults
        self._sweep_every = min(SWEEP_EVERY, config.lasting(config.file_ttl), config.lasting(config.result_ttl))
        self._thread = LoopThread("batchspec-jobs", self._work)
        self._woken = asyncio.Event()
        self._stopping = False
        self._validating: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, BatchRun] = {}
        self._broken: dict[str, tuple[int, float]] = {}

    def start(self) -> None:
        """Start the thread. Raises its setup's exception, such as ServiceError."""
        self._thread.start()

    def stop(self) -> None:
        """Stop within about a second. Jobs pause until the next start."""
        self._stopping = True
        self._thread.call_soon(self._stop_runs)
        self._thread.join()

    def wake(self) -> None:
        """Signal a change in the database, from any thread."""
        self._thread.call_soon(self._woken.set)

    def cancel(self, batch_id: str) -> None:
        """Signal a job's cancellation, from any thread."""
        self._thread.call_soon(lambda: self._cancel(batch_id))

    def _cancel(self, batch_id: str) -> None:
        if run := self._runs.get(batch_id):
            run.stop(Stop.CANCELLED)
        self._woken.set()

    def _stop_runs(self) -> None:
        for run in self._runs.values():
            run.stop(Stop.SHUTDOWN)
        self._woken.set()

    async def _work(self) -> None:
        db = Database(self._config.data / "service.db")
        try:
            self._batches, self._files = Batches(db, self._on_webhook), Files(db)
            self._backend: Backend = make_backend(self._config)
            self._thread.ready()
            try:
                await self._dispatch()
            finally:
                await self._backend.close()
        finally:
            db.close()

    async def _dispatch(self) -> None:
        """Start all possible work, and repeat after each change."""
        swept = 0.0
        while not self._stopping:
            self._woken.clear()
            now = time.time()
            if now - swept >= self._sweep_every:
                self._sweep(now)
                swept = now
            self._expire_waiting(now)
            self._start_all(now)
            timer = self._set_timer(now, swept)
            await self._woken.wait()
            timer.cancel()
        tasks = [*self._validating.values(), *self._running.values()]
        if tasks:
            await asyncio.wait(tasks)

    def _set_timer(self, now: float, swept: float) -> asyncio.TimerHandle:
        due = [swept + self._sweep_every, *(at for _, at in self._broken.values() if at > now)]
        deadline = self._batches.next_deadline()
        if deadline is not None:
            due.append(deadline)
        return asyncio.get_running_loop().call_later(max(min(due) - now, 0.01), self._woken.set)

    def _start_all(self, now: float) -> None:
        self._start_some(now, ("validating",), self._validating, VALIDATIONS, self._validate)
        self._start_some(now, _RUNNABLE, self._running, self._config.max_running, self._run)

    def _start_some(
        self,
        now: float,
        statuses: tuple[Status, ...],
        active: dict[str, asyncio.Task[None]],
        limit: int,
        work: Callable[[Batch], Coroutine[Any, Any, None]],
    ) -> None:
        waiting = {batch_id for batch_id, (_, until) in self._broken.items() if until > now}
        while len(active) < limit:
            batch = self._batches.next_in(statuses, exclude={*active, *waiting})
            if batch is None:
                return
            active[batch.id] = asyncio.create_task(self._supervise(batch, active, work))

    async def _supervise(
        self,
        batch: Batch,
        active: dict[str, asyncio.Task[None]],
        work: Callable[[Batch], Coroutine[Any, Any, None]],
    ) -> None:
        """Run the work. If it raises, keep the job and retry later."""
        try:
            await work(batch)
            self._broken.pop(batch.id, None)
        except _RetryLater as later:
            self._broken[batch.id] = (0, later.until)
        except Exception:  # noqa: BLE001 - one job's error must not end the others
            times = self._broken.get(batch.id, (0, 0.0))[0]
            delay = RETRY_AFTER[min(times, len(RETRY_AFTER) - 1)]
            self._broken[batch.id] = (times + 1, time.time() + delay)
            logger.error("job.interrupted", batch=batch.id, again_in_seconds=delay)
        finally:
            active.pop(batch.id, None)
            self._woken.set()

    async def _validate(self, batch: Batch) -> None:
        if "stuck-validating" in batch.active_faults:
            stuck_until = batch.created_at + float(batch.active_faults["stuck-validating"] or "inf")
            if time.time() < stuck_until:
                raise _RetryLater(stuck_until)
        rules = Rules(
            batch.provider,
            batch.endpoint,
            defaults_of(batch),
            self._config.max_requests,
            self._config.max_line_bytes,
        )
        path = self._storage.blob(batch.blob)
        verdict = await asyncio.to_thread(validate, path, rules, lambda: self._stopping)
        if verdict is None:
            return
        now = time.time()
        if not verdict.errors:
            self._batches.validated(batch.id, verdict.total, verdict.model, now)
            logger.info("job.queued", batch=batch.id, requests=verdict.total)
        elif self._batches.end(batch.id, ("validating",), "failed", now, errors=verdict.errors):
            logger.info("job.failed", batch=batch.id, errors=len(verdict.errors), first=verdict.errors[0].code)

    async def _run(self, batch: Batch) -> None:
        # Read again: a cancel writes first and signals then, so none is missed between this line and the next.
        current = self._batches.get(batch.id)
        assert current is not None
        run = BatchRun(current, self._batches, self._storage, self._backend, self._config, self._faults)
        self._runs[batch.id] = run
        if self._stopping:
            run.stop(Stop.SHUTDOWN)
        try:
            await run.work()
        finally:
            del self._runs[batch.id]

    def _expire_waiting(self, now: float) -> None:
        for batch_id in self._batches.overdue(now):
            if batch_id not in self._running and self._batches.end(batch_id, _WAITING, "expired", now):
                logger.info("job.expired", batch=batch_id, completed=0, failed=0)

    def _sweep(self, now: float) -> None:
        for blob in self._files.drop_expired(now):
            self._storage.drop_blob(blob)
        for batch_id in self._batches.with_old_results(now - self._config.lasting(self._config.result_ttl)):
            self._batches.results_gone(batch_id)
            self._storage.drop_job(batch_id)
            logger.info("results.deleted", batch=batch_id)
