"""How far long work is: bars on a terminal, a line now and then elsewhere. Both say the same.

Nothing runs beside the work: a bar is drawn when there is news, at most four times a second, so that drawing costs
nothing while a service is waited for and well under a hundredth while rows are rendered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

_BYTES = {"render", "upload", "fetch", "index"}
"""Work that is counted in bytes; other work in requests or rows."""
_DRAWN_EVERY = 0.25
_SAID_FIRST = 15.0
_SAID_LEAST = 600.0
"""Seconds between plain lines: a tenth of what the work has taken, between these two."""
_SURE = 1.0
"""Seconds after which a rate is worth showing."""
_BAR = 32
_LABEL = 36
_LEAST = 10
_GAP = 2
"""Columns of a terminal: that a bar, and what it is the bar of, take at most and at least, and between them."""


@dataclass(slots=True)
class Work:
    """One thing that takes its time. `first` of it was done already when it was `begun`; `total` is 0 if unknown."""

    verb: str
    label: str
    begun: float
    first: int
    done: int = 0
    total: int = 0
    failed: int = 0
    note: str = ""
    said: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether all of it is done."""
        return self.total > 0 and self.done >= self.total

    def text(self, now: float) -> str:
        """How much is done, how fast, and how long the rest will take."""
        facts = [self._amount(), *([f"{self.failed:,} failed"] if self.failed else [])]
        took = now - self.begun
        rate = (self.done - self.first) / took if took >= _SURE else 0.0
        if rate > 0:
            facts.append(self._rate(rate))
            if self.total > self.done:
                from runner.cli.board import time_text  # noqa: PLC0415

                facts.append(f"{time_text((self.total - self.done) / rate)} left")
        return ", ".join(facts)

    def _amount(self) -> str:
        if self.verb in _BYTES:
            size, unit = _scale(max(self.total, self.done))
            done = f"{self.done / size:.{_digits(size)}f}"
            return f"{done}/{self.total / size:.{_digits(size)}f} {unit}" if self.total else f"{done} {unit}"
        return f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"

    def _rate(self, rate: float) -> str:
        if self.verb in _BYTES:
            size, unit = _scale(int(rate))
            return f"{rate / size:.{_digits(size)}f} {unit}/s"
        return f"{rate:,.0f}/s" if rate >= 10 else f"{rate * 60:,.0f}/min" if rate >= 1 / 6 else f"{rate * 3600:,.0f}/h"


class Progress:
    """All that is under way. `live` draws bars on the terminal of a console; else `say` gets a line now and then.

    Threads that move files may tell of it at the same time.
    """

    def __init__(
        self, say: Callable[[str], None], console: Callable[[], Console] | None, now: Callable[[], float] = monotonic
    ) -> None:
        self._now = now
        self._say = say
        self._console = console
        self._works: dict[str, Work] = {}
        self._live: Live | None = None
        self._drawn = 0.0
        self._turn = threading.RLock()

    def update(self, what: str, done: int, total: int, failed: int, note: str) -> None:
        """Tell how far `what` is, which is `VERB LABEL`."""
        with self._turn:
            now = self._now()
            # What else is finished has been seen by now.
            self._works = {name: one for name, one in self._works.items() if name == what or not one.finished}
            work = self._works.get(what)
            if work is None or (work.finished and done < total):
                verb, _, label = what.partition(" ")
                work = self._works[what] = Work(verb, label, now, done, said=now)
            work.done, work.total, work.failed, work.note = done, total, failed, note
            if self._console is not None:
                if work.finished or now - self._drawn >= _DRAWN_EVERY:
                    self._draw(now)
            else:
                self._tell(work, now)

    def line(self, text: str) -> None:
        """A line above the bars."""
        with self._turn:
            if self._live is None:
                self._say(text)
            else:
                self._live.console.print(text, markup=False, highlight=False)

    def clear(self) -> None:
        """Take the bars away, before a question or the end."""
        with self._turn:
            self._works.clear()
            if self._live is not None:
                self._live.stop()
                self._live = None

    def _tell(self, work: Work, now: float) -> None:
        if now - work.said >= min(max((now - work.begun) / 10, _SAID_FIRST), _SAID_LEAST) and not work.finished:
            work.said = now
            self._say(f"{work.verb} {work.label}: {work.text(now)}{f' ({work.note})' if work.note else ''}")

    def _draw(self, now: float) -> None:
        self._drawn = now
        works = list(self._works.values())
        if self._live is None:
            from rich.live import Live  # noqa: PLC0415

            assert self._console is not None
            self._live = Live(console=self._console(), auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(_picture(works, now, self._live.console.width), refresh=True)


def _picture(works: list[Work], now: float, width: int) -> RenderableType:
    """A line for each: what it is, its bar, its numbers, and what else there is to say where there is room."""
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Column, Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from runner.cli.board import Name  # noqa: PLC0415

    rows = [(f"{work.verb} {work.label}", work.text(now), work.note) for work in works]
    labels, texts, notes = (max(map(len, column)) for column in zip(*rows, strict=True))
    room = width - texts - 2 * _GAP
    labels = min(labels, _LABEL, max(room - _LEAST, _LEAST))
    bars = max(_LEAST, min(_BAR, room - labels))
    notes = max(0, min(notes, width - labels - bars - texts - 3 * _GAP))
    widths = [labels, bars, texts, *([notes] if notes >= _LEAST else [])]
    table = Table.grid(
        *(Column(width=one, no_wrap=True, overflow="ellipsis") for one in widths), padding=(0, _GAP, 0, 0)
    )
    for work, (label, text, note) in zip(works, rows, strict=True):
        cells: list[RenderableType] = [Name(label), ProgressBar(work.total or None, work.done), Text(text), Text(note)]
        table.add_row(*cells[: len(widths)])
    return table


def _scale(count: int) -> tuple[int, str]:
    """The unit that a number of bytes is shown in: how many bytes it is, and its name."""
    for size, unit in ((10**9, "GB"), (10**6, "MB")):
        if count >= size:
            return size, unit
    return 10**3, "KB"


def _digits(size: int) -> int:
    return 2 if size == 10**9 else 1
