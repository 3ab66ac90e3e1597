"""The table of jobs that `status` and a running `apply` show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from runner.base.humanize import counted
from runner.money.prices import usd_text

_ROOM = 6
"""Lines of a screen that are not jobs: head, rest, sum, and notes."""
_JOB = 12
_STATE = 11
"""Minimum columns of a job's name and of its state."""
_WIDE = 80
"""Terminal columns from which the table is spaced out."""
_MATTERS = ("done", "failed", "left", "rate", "cost")
"""The other columns, most important first. Narrow terminals omit the last ones."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. `rank` orders rows; `group` names counted jobs. `cost` is USD."""

    job: str
    state: str
    rank: int
    group: str
    done: str = ""
    rate: str = ""
    left: str = ""
    requests: int = 0
    answered: int = 0
    failed: int = 0
    cost: Decimal | None = None
    style: str = ""


@dataclass(frozen=True, slots=True)
class JobTable:
    """The table. With a screen's `height`, a job has one line, and jobs without room are counted."""

    rows: Sequence[Row]
    height: int | None = None
    head: str = "answered"
    until: str = "so far"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.height is None:
            yield self._table(self.rows, options.max_width, folded=True, longest=16 if console.is_terminal else None)
            return
        ordered = sorted(self.rows, key=lambda row: row.rank)
        room = max(1, self.height - _ROOM - _wrapped(summary(self.rows, self.until), options.max_width, 2))
        room = max(1, room - _wrapped(_rest(ordered[room:]), options.max_width, 1))
        yield self._table(ordered[:room], options.max_width, folded=False, longest=24)
        if hidden := ordered[room:]:
            yield Text(_rest(hidden))

    def _table(self, rows: Sequence[Row], width: int, *, folded: bool, longest: int | None) -> Table:
        cells: dict[str, list[RenderableType]] = {
            "done": [row.done for row in rows],
            "failed": [Text(f"{row.failed:,}" if row.failed else "", style="red") for row in rows],
            "rate": [row.rate for row in rows],
            "left": [row.left for row in rows],
            "cost": ["" if row.cost is None else usd_text(row.cost) for row in rows],
        }
        gap = _gap(width)
        texts = {name: [self.head if name == "done" else name, *map(str, column)] for name, column in cells.items()}
        kept = fitting(texts, _MATTERS, width - _JOB - _STATE - gap, gap)
        # In a narrow terminal the job's name shrinks, its state never does.
        names, states = widest(["job", *(row.job for row in rows)]), widest(["state", *(row.state for row in rows)])
        room = width - gap - sum(gap + widest(texts[name]) for name in kept)
        state, name = shared(room, (min(states, longest or states), _STATE), (names, _JOB))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, _gap(width) - 1, 0, 0))
        table.add_column("job", overflow="fold", width=name)
        table.add_column("state", overflow="fold" if folded else "ellipsis", width=state)
        for column in kept:
            table.add_column(texts[column][0], justify="right", no_wrap=True)
        for row, *others in zip(rows, *(cells[column] for column in kept), strict=True):
            job = Text(row.job, style="bold") if folded else Name(row.job)
            table.add_row(job, Text(row.state, style=row.style, no_wrap=not folded), *others)
        return table


def fitting(cells: Mapping[str, Sequence[str]], matters: Sequence[str], room: int, gap: int) -> list[str]:
    """Return the columns that fit, in their order, by importance."""
    kept = set()
    for name in matters:
        needed = gap + widest(cells[name])
        if needed <= room:
            kept.add(name)
            room -= needed
    return [name for name in cells if name in kept]


def widest(texts: Iterable[str]) -> int:
    """Return the width of the widest text, in terminal columns."""
    return max(map(cell_len, texts))


def shared(room: int, first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    """Return the widths of two columns that share a room. The second one shrinks first."""
    one = min(first[0], max(first[1], room - second[1]))
    return one, min(second[0], max(second[1], room - one))


def summary(rows: Sequence[Row], until: str = "so far") -> str:
    """Return all jobs in one line. `until` is the period of the costs."""
    groups = {row.group for row in rows}
    jobs = counted(len(rows), "job")
    facts = [f"{jobs} {groups.pop()}" if len(groups) == 1 else f"{jobs}: {_states(rows)}"]
    requests = sum(row.requests for row in rows)
    facts += [f"{sum(row.answered for row in rows):,} of {requests:,} answered"] if requests else []
    failed = sum(row.failed for row in rows)
    facts += [f"{failed:,} failed"] if failed else []
    costs = [row.cost for row in rows if row.cost is not None]
    facts += [f"{usd_text(sum(costs, Decimal(0)))} {until}"] if costs else []
    return ", ".join(facts)


def time_text(seconds: float) -> str:
    """Return a duration, rounded, in its largest unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Name:
    """A name on one line, shortened in its middle: matrix jobs differ at their ends."""

    text: str

    def __rich_measure__(self, _console: Console, _options: ConsoleOptions) -> Measurement:
        return Measurement(_JOB, cell_len(self.text))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width, text = options.max_width, self.text
        if cell_len(text) > width:
            before = set_cell_size(text, (width - 1) // 2)
            after = set_cell_size(text[::-1], width - 1 - cell_len(before))[::-1]
            text = f"{before}…{after}"
        yield Text(text, style="bold", no_wrap=True)


def _gap(width: int) -> int:
    return 2 if width >= _WIDE else 1


def _rest(rows: Sequence[Row]) -> str:
    return f"… and {len(rows):,} more: {_states(rows)}"


def _wrapped(text: str, width: int, lines: int) -> int:
    return max(0, -(-cell_len(text) // width) - lines)


def _states(rows: Sequence[Row]) -> str:
    counted = Counter(row.group for row in rows)
    return ", ".join(f"{count:,} {group}" for group, count in sorted(counted.items()))
