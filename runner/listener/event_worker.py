"""The thread that continues jobs. The events on disk are its queue, so a crash loses none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from runner.context import Watcher
from runner.errors import BatchspecError
from runner.executor.apply import Interrupted
from runner.executor.outcome import Outcome
from runner.http_server import logger
from runner.jobspec.job_spec import Project
from runner.listener.continuation import Continued, continue_jobs
from runner.listener.events import Event, EventQueue
from runner.listener.matching import Matcher
from runner.listener.projects import load_current, load_with_partitions

MIN_PAUSE = 0.5
"""Seconds before the first retry of a job that could not be continued. The pause doubles."""
MAX_PAUSE = 600.0
GIVE_UP = timedelta(hours=24).total_seconds()
"""Seconds after which an event is dropped. The next apply continues its job all the same."""
CHECK = 3600.0
"""Seconds between two looks at the queue without an event."""


class _Stopping(KeyboardInterrupt):
    """The listener stops during a pause; the rest continues after the next start."""


@dataclass(slots=True)
class _Retry:
    attempts: int
    due: float


class Worker:
    """Continues the jobs of waiting events, from `start` to `stop`."""

    def __init__(
        self,
        root: Path,
        queue: EventQueue,
        environ: Mapping[str, str],
        watcher: Watcher,
        *,
        workers: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._queue = queue
        self._environ = environ
        self._watcher = watcher
        self._workers = workers
        self._now = now
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._retries: dict[str, _Retry] = {}
        self._thread = threading.Thread(target=self._work, name="batchspec-listen", daemon=True)

    def start(self) -> None:
        """Continue jobs, also those of an earlier process's events."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the queue, from any thread."""
        self._woken.set()

    def stop(self, seconds: float) -> None:
        """Stop after the current step; wait at most `seconds`. The rest waits on disk."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            pause = MAX_PAUSE
            try:
                pause = self._continue_due()
            except (_Stopping, Interrupted):
                return
            except Exception:  # noqa: BLE001 - one error must not end the listener
                logger.error("listen.failed", again_in_seconds=MIN_PAUSE)
                pause = MAX_PAUSE / 60
            self._woken.wait(pause)

    def _continue_due(self) -> float:
        events = self._queue.waiting()
        moment = time.monotonic()
        due = [event for event in events if event.name not in self._retries or self._retries[event.name].due <= moment]
        if due:
            self._continue(due)
            self._queue.sweep()
        waits = [retry.due - time.monotonic() for retry in self._retries.values()]
        return max(min([*waits, CHECK]), 0.01)

    def _continue(self, events: Sequence[Event]) -> None:
        try:
            project = load_current(self._root, self._environ)
            matcher = Matcher(project)
            matched = matcher.addresses(events)
            addresses = frozenset[str]().union(*matched.values())
            if addresses:
                addresses |= matcher.held_back()
                project = load_with_partitions(self._root, self._environ, addresses)
            names = _present_names(matcher, project, addresses)
            continued = Continued({}, {})
            if names:
                continued = continue_jobs(
                    project, frozenset(names.values()), self._environ, self._watcher, self._sleep, self._workers
                )
        except (BatchspecError, OSError) as error:
            reason = error.coded() if isinstance(error, BatchspecError) else f"{error}"
            logger.warning("job.not_continued", reason=reason)
            for event in events:
                self._retry(event, reason)
            return
        for event in events:
            self._settle(event, [names[one] for one in matched[event] if one in names], continued)
        self._queue.sync()

    def _settle(self, event: Event, addresses: Collection[str], continued: Continued) -> None:
        if not addresses:
            logger.info("webhook.unmatched", profile=event.profile, batch=event.batch)
        reasons = [reason for one in addresses if (reason := _unfinished(event, one, continued))]
        if reasons:
            self._retry(event, reasons[0])
        else:
            self._finish(event)

    def _finish(self, event: Event) -> None:
        self._retries.pop(event.name, None)
        self._queue.finish(event)

    def _retry(self, event: Event, reason: str) -> None:
        if self._now() - event.received > GIVE_UP:
            logger.warning("webhook.given_up", profile=event.profile, batch=event.batch, reason=reason)
            self._finish(event)
            return
        attempts = self._retries[event.name].attempts if event.name in self._retries else 0
        pause = min(MIN_PAUSE * 2.0 ** min(attempts, 20), MAX_PAUSE)
        self._retries[event.name] = _Retry(attempts + 1, time.monotonic() + pause)
        logger.info("job.waits", batch=event.batch, reason=reason, again_in_seconds=pause)

    def _sleep(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise _Stopping


def _present_names(matcher: Matcher, project: Project, addresses: Collection[str]) -> dict[str, str]:
    """Return the present address of each; a job may have been renamed."""
    known = {job.address: job.address for job in project.jobs}
    renamed = {old: job.address for job in project.jobs for old in matcher.old_names(job)}
    return {one: known.get(one) or renamed[one] for one in addresses if one in known or one in renamed}


def _unfinished(event: Event, address: str, continued: Continued) -> str:
    if address in continued.closed:
        return ""
    if address in continued.errors:
        return continued.errors[address]
    outcome: Outcome | None = continued.outcomes.get(address)
    if outcome is None:
        return "it was not continued"
    if outcome.end == "error":
        return outcome.message
    if event.batch in outcome.running:
        return "the service does not show the end of the batch yet"
    if outcome.end == "running" and not outcome.running:
        return outcome.message or "nothing of it is in flight"
    return ""
