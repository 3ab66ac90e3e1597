"""Runs one job: its requests, and the answers' files."""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from typing import Any

import orjson

from runner.http_server import logger
from runner.service.backends import Answer, Backend, BackendFailed, RequestFailed
from runner.service.config import ServiceConfig
from runner.service.db.batches import Batch, Batches, Status
from runner.service.db.storage import Storage
from runner.service.faults.faults import Faults
from runner.service.jobs.journal import Journal
from runner.service.jobs.lines import LineError, key_of, read_lines, request_of, with_defaults

REPORT_EVERY = 0.25
"""Seconds between two progress reports of a running job, each after a sync of its files."""

_SLICE = 0.01
"""Seconds that a worker may keep the event loop if its backend never waits."""

_SHUTDOWN_DRAIN = 0.3

_WINDOW = 64
_WINDOW_BYTES = 1 << 20
"""Requests held in memory to be shuffled, and their largest total size."""

_Requests = Generator[tuple[str, dict[str, Any]], None, None]


class Stop(enum.Enum):
    """Why a job stops before all its requests are answered."""

    CANCELLED = "cancelled"
    EXPIRED = "expired"
    SHUTDOWN = "shutdown"


class BatchRun:
    """One running job, in the event loop that awaits `work`."""

    def __init__(
        self,
        batch: Batch,
        batches: Batches,
        storage: Storage,
        backend: Backend,
        config: ServiceConfig,
        faults: Faults,
    ) -> None:
        self._batch = batch
        self._batches = batches
        self._storage = storage
        self._backend = backend
        self._config = config
        self._faults = faults
        self._active_faults = batch.active_faults
        self._stop: Stop | None = Stop.CANCELLED if batch.status == "cancelling" else None
        self._stopping = asyncio.Event()
        self._shutdown = asyncio.Event()

    def stop(self, reason: Stop) -> None:
        """Send no more requests. A shutdown overrides other reasons."""
        if self._stop is None or reason is Stop.SHUTDOWN:
            self._stop = reason
        self._stopping.set()
        if reason is Stop.SHUTDOWN:
            self._shutdown.set()

    async def work(self) -> None:
        """Run the job until it ends or must stop. Raises OSError."""
        batch = self._batch
        if self._batches.step(batch.id, ("queued",), "in_progress", time.time()):
            logger.info("job.started", batch=batch.id, requests=batch.total)
        elif batch.in_progress_at is not None:
            logger.info("job.resumed", batch=batch.id)
        journal = await asyncio.to_thread(Journal, self._storage.job(batch.id), batch.id, batch.result_shape)
        with closing(journal):
            expiry = asyncio.get_running_loop().call_later(
                max(batch.expires_at - time.time(), 0), self.stop, Stop.EXPIRED
            )
            ended = asyncio.Event()
            reports = asyncio.create_task(self._report(journal, ended))
            failure: BackendFailed | None = None
            try:
                await self._process_all(journal)
            except* BackendFailed as group:
                failure = _first(group)
            finally:
                expiry.cancel()
                ended.set()
                await reports
            await asyncio.to_thread(journal.sync)
            self._end(journal, failure)

    async def _process_all(self, journal: Journal) -> None:
        """Return when all is done, or nothing is in flight after a stop."""
        requests = self._requests(journal)
        with closing(requests):
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(self._worker(requests, journal)) for _ in range(self._backend.concurrency)]
                drain = group.create_task(self._drain(workers))
                await asyncio.wait(workers)
                drain.cancel()

    async def _drain(self, workers: list[asyncio.Task[None]]) -> None:
        """After a stop, wait for requests in flight, then cancel them."""
        await self._stopping.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._shutdown.wait(), self._config.drain)
            await asyncio.sleep(_SHUTDOWN_DRAIN)
        for worker in workers:
            worker.cancel()

    async def _worker(self, requests: _Requests, journal: Journal) -> None:
        yielded = time.monotonic()
        while self._stop is None:
            if self._active_faults:
                self._inject_faults(journal)
                if self._stop is not None:
                    return
            request = next(requests, None)
            if request is None:
                return
            custom_id, body = request
            outcome = await self._ask(custom_id, body)
            if isinstance(outcome, Answer):
                journal.answered(custom_id, outcome.response, outcome.usage)
            else:
                journal.refused(custom_id, outcome.code, outcome.message)
            if time.monotonic() - yielded > _SLICE:
                await asyncio.sleep(0)
                yielded = time.monotonic()

    def _inject_faults(self, journal: Journal) -> None:
        if code := self._active_faults.get("fail-job"):
            raise BackendFailed(code, "The job failed by the fault fail-job.")
        done = journal.progress
        if done.completed + done.failed < self._batch.total // 2:
            return
        if code := self._active_faults.get("fail-half"):
            raise BackendFailed(code, "The job failed by the fault fail-half.")
        if "expire-half" in self._active_faults:
            self.stop(Stop.EXPIRED)

    async def _ask(self, custom_id: str, body: dict[str, Any]) -> Answer | RequestFailed:
        if self._faults and (code := self._faults.for_request(self._batch.id, custom_id)):
            return RequestFailed(code, "The request failed by the fault fail-requests.")
        try:
            return await self._backend.answer(body, self._batch.format)
        except RequestFailed as failed:
            return failed
        except BackendFailed:
            raise
        except Exception:  # noqa: BLE001 - one request must not stop the others
            logger.error("request.crashed", batch=self._batch.id, custom_id=custom_id)
            return RequestFailed("internal_error", "The service could not process this request.")

    def _requests(self, journal: Journal) -> _Requests:
        batch = self._batch
        defaults = defaults_of(batch)
        with self._storage.blob(batch.blob).open("rb") as file:
            for raw in _shuffled(read_lines(file, self._config.max_line_bytes), batch.digest):
                line = orjson.loads(raw)
                if key_of(line["custom_id"]) not in journal.done:
                    body = request_of(line, batch.provider)
                    yield line["custom_id"], with_defaults(body, defaults, batch.format)

    async def _report(self, journal: Journal, ended: asyncio.Event) -> None:
        """Report progress after each sync, so that a power cut never takes it back."""
        while not ended.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), REPORT_EVERY)
            if journal.dirty:
                progress = journal.progress
                await asyncio.to_thread(journal.sync)
                self._batches.progressed(self._batch.id, progress)

    def _end(self, journal: Journal, failure: BackendFailed | None) -> None:
        if failure:
            reason = LineError(failure.code, failure.message)
            if self._finish(journal, ("in_progress",), "failed", reason):
                return
        elif self._stop is Stop.SHUTDOWN:
            logger.info("job.paused", batch=self._batch.id)
            return
        elif self._stop is Stop.EXPIRED:
            if self._finish(journal, ("in_progress", "finalizing"), "expired"):
                return
        elif self._stop is None:
            self._batches.step(self._batch.id, ("in_progress",), "finalizing", time.time())
            if self._finish(journal, ("finalizing",), "completed"):
                return
        # A cancel may have come at the last moment.
        self._finish(journal, ("cancelling",), "cancelled")

    def _finish(self, journal: Journal, origin: tuple[Status, ...], to: Status, *errors: LineError) -> bool:
        progress = journal.progress
        done = self._batches.end(self._batch.id, origin, to, time.time(), progress=progress, errors=errors)
        if done:
            logger.info(f"job.{to}", batch=self._batch.id, completed=progress.completed, failed=progress.failed)
        return done


def _shuffled(lines: Iterator[tuple[int, bytes | None]], seed: str) -> Iterator[bytes]:
    """Yield readable lines, shuffled by the file alone: no client may rely on their order."""
    numbers = random.Random(seed)  # noqa: S311 - no secret
    window: list[bytes] = []
    size = 0
    for _, raw in lines:
        if raw is None:
            continue
        window.append(raw)
        size += len(raw)
        while len(window) > _WINDOW or (size > _WINDOW_BYTES and len(window) > 1):
            line = _pop_random(window, numbers)
            size -= len(line)
            yield line
    while window:
        yield _pop_random(window, numbers)


def _pop_random(window: list[bytes], numbers: random.Random) -> bytes:
    index = int(numbers.random() * len(window))
    window[index], window[-1] = window[-1], window[index]
    return window.pop()


def _first(group: BaseExceptionGroup[BackendFailed]) -> BackendFailed:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    assert isinstance(inner, BackendFailed)
    return inner


def defaults_of(batch: Batch) -> dict[str, Any]:
    """Return the defaults for a job's requests."""
    defaults: dict[str, Any] = orjson.loads(batch.parameters)
    return {"model": batch.default_model, **defaults} if batch.default_model else defaults
