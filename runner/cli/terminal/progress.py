"""Progress of long work: a table of jobs on a terminal, occasional lines elsewhere.

No thread runs for it: news redraws the table, at most four times a second.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from runner.cli.terminal.live_region import LiveRegion
    from runner.views.job_table import Row

_BYTES = {"render", "upload", "fetch", "index"}
"""Work counted in bytes; other work is counted in requests or rows."""
_DRAWN_EVERY = 0.25
_DRAWN_LEAST = 10.0
_SHARE = 200
"""Seconds between drawings: this many times the last one's, between these two."""
_LINE_FIRST = 15.0
_LINE_LEAST = 600.0
"""Seconds between plain lines: a tenth of the time so far, between these two."""
_SURE = 1.0
"""Seconds after which a rate is shown."""
_DOING = {
    "render": "rendering",
    "upload": "uploading",
    "fetch": "fetching",
    "index": "indexing",
    "write": "writing",
    "answers": "submitted",
}
"""A job's state during a work, by verb. For answers, the batches' states say more."""
_ENDS = {"succeeded": "done"}
"""Outcomes that the table names differently."""


@dataclass(slots=True)
class Work:
    """One piece of work. `first` was done when it was `begun`; `total` is 0 if unknown."""

    verb: str
    label: str
    begun: float
    first: int
    done: int = 0
    total: int = 0
    failed: int = 0
    note: str = ""
    last_line: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether all of it is done."""
        return self.total > 0 and self.done >= self.total

    @property
    def state(self) -> str:
        """The state in a word or two."""
        return (self.note if self.verb == "answers" else "") or _DOING.get(self.verb, self.verb)

    def text(self, now: float) -> str:
        """Return the amount, the rate and the time left."""
        facts = [self.amount(), f"{self.failed:,} failed" if self.failed else "", self.rate_text(now)]
        left = self.left(now)
        return ", ".join(fact for fact in (*facts, f"{left} left" if left else "") if fact)

    def amount(self) -> str:
        """Return how much is done of how much."""
        if self.verb in _BYTES:
            size, unit = _scale(max(self.total, self.done))
            done = f"{self.done / size:.{_digits(size)}f}"
            return f"{done}/{self.total / size:.{_digits(size)}f} {unit}" if self.total else f"{done} {unit}"
        return f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"

    def rate_text(self, now: float) -> str:
        """Return the rate; empty if unknown."""
        rate = self._per_second(now)
        return self._rate(rate) if rate > 0 else ""

    def left(self, now: float) -> str:
        """Return the time left; empty if unknown."""
        rate = self._per_second(now)
        if rate <= 0 or self.total <= self.done:
            return ""
        from runner.views.job_table import time_text  # noqa: PLC0415

        return time_text((self.total - self.done) / rate)

    def _per_second(self, now: float) -> float:
        took = now - self.begun
        return (self.done - self.first) / took if took >= _SURE else 0.0

    def _rate(self, rate: float) -> str:
        if self.verb in _BYTES:
            size, unit = _scale(int(rate))
            return f"{rate / size:.{_digits(size)}f} {unit}/s"
        return f"{rate:,.0f}/s" if rate >= 10 else f"{rate * 60:,.0f}/min" if rate >= 1 / 6 else f"{rate * 3600:,.0f}/h"


@dataclass(slots=True)
class JobWork:
    """One job: its current work, and its `end`, if any."""

    requests: int = 0
    work: Work | None = None
    answered: int = 0
    failed: int = 0
    cost: Decimal | None = None
    fetched: int = 0
    in_flight: bool = False
    end: str = ""

    def ended(self, end: str) -> None:
        """Record the end. Fetched counts are newer than polled ones."""
        self.end = end
        self.answered = min(max(self.answered, self.fetched), self.requests)
        if end in {"succeeded", "failed"} and self.fetched:
            self.failed = self.requests - self.answered

    def row(self, address: str, now: float) -> Row:
        """Return its row of the table."""
        from runner.views.job_table import Row  # noqa: PLC0415

        work = None if self.end else self.work
        state = work.state if work else _ENDS.get(self.end, self.end) or ("submitted" if self.in_flight else "waiting")
        active = work is not None or (self.in_flight and not self.end)
        return Row(
            address,
            state,
            rank=2 if self.end else 0 if active else 1,
            group="running" if active else state,
            done=work.amount() if work else f"{self.answered:,}/{self.requests:,}" if self.requests else "",
            rate=work.rate_text(now) if work else "",
            left=work.left(now) if work else "",
            requests=self.requests,
            answered=self.answered,
            failed=self.failed,
            cost=self.cost,
            style="yellow" if active else "green" if self.end == "succeeded" else "red" if self.end else "",
        )


class Progress:
    """All current work. `live` draws a table on a console; otherwise `say` gets occasional lines. Thread-safe."""

    def __init__(
        self, say: Callable[[str], None], console: Callable[[], Console] | None, now: Callable[[], float] = monotonic
    ) -> None:
        self._now = now
        self._say = say
        self._console = console
        self._works: dict[str, Work] = {}
        self._jobs: dict[str, JobWork] = {}
        self._expected = False
        self._pane: LiveRegion | None = None
        self._drawn = self._took = self._last = 0.0
        self._drawing = False
        self._turn = threading.RLock()

    @property
    def shown(self) -> bool:
        """Whether a table is on the terminal."""
        return self._pane is not None

    def expect(self, jobs: Mapping[str, int]) -> None:
        """Show these jobs, with their numbers of requests."""
        with self._turn:
            self._expected = True
            self._jobs = {address: JobWork(requests) for address, requests in jobs.items()}
            if self._console is not None:
                _on_resize(self._resized)

    def update(self, what: str, done: int, total: int, failed: int, note: str) -> None:
        """Record the progress of `what`, which is `VERB JOB`."""
        with self._turn:
            now = self._now()
            # What else is finished has been seen by now.
            self._works = {name: one for name, one in self._works.items() if name == what or not one.finished}
            work = self._works.get(what)
            if work is None or (work.finished and done < total):
                verb, _, label = what.partition(" ")
                work = self._works[what] = Work(verb, label, now, done, last_line=now)
            work.done, work.total, work.failed, work.note = done, total, failed, note
            self._note(work)
            if self._console is None:
                self._tell(work, now)
            elif self._due(now) or (work.finished and not self._expected):
                self._draw(now)

    def submitted(self, job: str) -> None:
        """Record that a batch was submitted."""
        with self._turn:
            if job in self._jobs:
                self._jobs[job].in_flight, self._jobs[job].work = True, None
                self._draw_if_due()

    def fetched(self, job: str, answers: int, cost: float | None) -> None:
        """Record the answers and cost (USD) of a fetched batch."""
        with self._turn:
            known = self._jobs.get(job)
            if known is None:
                return
            known.fetched += answers
            known.requests = max(known.requests, known.fetched)
            if cost is not None:
                known.cost = (known.cost or Decimal(0)) + Decimal(str(cost))

    def ended(self, job: str, end: str) -> None:
        """Record how a job ended."""
        with self._turn:
            if job in self._jobs:
                self._jobs[job].ended(end)
                self._draw_if_due()

    def line(self, text: str) -> None:
        """Print a line above the table."""
        with self._turn:
            if self._pane is None:
                self._say(text)
            else:
                self._pane.print(text)

    def clear(self) -> None:
        """Erase the table."""
        with self._turn:
            self._works.clear()
            self._jobs.clear()
            self._expected = False
            if self._pane is not None:
                self._pane.clear()
                self._pane = None
            if self._console is not None:
                _on_resize(None)

    def _note(self, work: Work) -> None:
        if not self._expected:
            # Which jobs there are is not known yet: only what is under way is shown.
            self._jobs = {work.label: JobWork() for work in self._works.values()}
            for one in self._works.values():
                self._jobs[one.label].work = one
        job = self._jobs.setdefault(work.label, JobWork())
        job.work = work
        if work.verb == "answers":
            job.requests = max(job.requests, work.total)
            job.answered, job.failed = work.done - work.failed, work.failed

    def _tell(self, work: Work, now: float) -> None:
        if now - work.last_line >= min(max((now - work.begun) / 10, _LINE_FIRST), _LINE_LEAST) and not work.finished:
            work.last_line = now
            self._say(f"{work.verb} {work.label}: {work.text(now)}{f' ({work.note})' if work.note else ''}")

    def _due(self, now: float) -> bool:
        return now - self._drawn >= max(_DRAWN_EVERY, min(_SHARE * self._took, _DRAWN_LEAST))

    def _draw_if_due(self) -> None:
        now = self._now()
        if self._pane is not None and self._due(now):
            self._draw(now)

    def _draw(self, now: float) -> None:
        from rich.console import Group  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        from runner.cli.terminal.live_region import LiveRegion  # noqa: PLC0415
        from runner.views.job_table import JobTable, summary  # noqa: PLC0415

        self._drawing, self._drawn = True, now
        if self._pane is None:
            assert self._console is not None
            self._pane = LiveRegion(self._console())
        rows = [job.row(address, now) for address, job in self._jobs.items()]
        table = JobTable(rows, self._pane.console.height, "done")
        self._pane.show(Group(table, Text(summary(rows))) if self._expected else table)
        # The quicker of the last two: one may have met imports, or a busy moment.
        took = self._now() - now
        self._took, self._last = min(took, self._last), took
        self._drawing = False

    def _resized(self) -> None:
        """Redraw in the window's new size, unless a drawing is under way."""
        if self._turn.acquire(blocking=False):
            try:
                if not self._drawing and self._pane is not None:
                    self._draw(self._now())
            finally:
                self._turn.release()


def _on_resize(call: Callable[[], None] | None) -> None:
    number = getattr(signal, "SIGWINCH", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()
    signal.signal(number, signal.SIG_DFL if call is None else lambda *_: call() if os.getpid() == owner else None)


def _scale(count: int) -> tuple[int, str]:
    for size, unit in ((10**9, "GB"), (10**6, "MB")):
        if count >= size:
            return size, unit
    return 10**3, "KB"


def _digits(size: int) -> int:
    return 2 if size == 10**9 else 1
