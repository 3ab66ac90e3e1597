"""The table of `batchspec status`: a line a job, and below it what there is to say of one job. Values in, text out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from runner.cli.links import file_url
from runner.money.prices import drift_text, usd_text

if TYPE_CHECKING:
    from runner.executor.status import BatchStatus, JobStatus, Tokens

_ROOM = 6
"""Lines of a screen that are not jobs: the head, the sum, and what may be said below."""


def board(jobs: Sequence[JobStatus], *, height: int | None = None) -> RenderableType:
    """The table and its sum. On a screen of `height` lines a job has one, and those that run come first."""
    if height is None:
        return Group(_table(jobs, folded=True), Text(summary(jobs)), *_errors(jobs))
    room = max(1, height - _ROOM)
    ordered = sorted(jobs, key=lambda job: (not job.running, job.state == "done"))
    hidden = ordered[room:]
    more = [Text(f"… and {len(hidden):,} more: {_states(hidden)}")] if hidden else []
    return Group(_table(ordered[:room], folded=False), *more, Text(summary(jobs)), *list(_errors(jobs))[:2])


def summary(jobs: Sequence[JobStatus]) -> str:
    """All jobs in one line."""
    facts = [f"{len(jobs):,} job{'s'[: len(jobs) != 1]}: {_states(jobs)}"]
    requests = sum(job.requests for job in jobs)
    facts += [f"{sum(job.answered for job in jobs):,} of {requests:,} answered"] if requests else []
    failed = sum(job.failed for job in jobs)
    facts += [f"{failed:,} failed"] if failed else []
    costs = [cost for job in jobs if (cost := _all_runs(job)) is not None]
    facts += [f"{usd_text(sum(costs, Decimal(0)))} until now in all runs"] if costs else []
    return ", ".join(facts)


def line(job: JobStatus) -> str:
    """A job in one line, for a log."""
    facts = [f"{job.answered:,} of {job.requests:,} answered"] if job.requests else []
    facts += [f"{job.failed:,} failed"] if job.failed else []
    facts += [f"{time_text(job.left)} left"] if job.left is not None and job.running else []
    facts += [_money(job.cost)] if job.cost is not None else []
    facts += [job.error] if job.error else []
    return f"{job.address}: {', '.join([job.state, *facts])}"


def details(job: JobStatus, root: Path, lockfile: str, *, links: bool) -> RenderableType:
    """Where a job's output and lockfile are below `root`, what it took beside what was estimated, and its batches."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    path, _, word = job.output.partition(": ")
    facts.add_row("output", Text.assemble(_link(path, root / path, links=links), f": {word}"))
    facts.add_row("lockfile", _link(lockfile, root / lockfile, links=links))
    facts.add_row("realm", Text(job.realm + ("" if job.asked else " (lockfile only)")))
    if job.tokens is not None:
        facts.add_row("tokens", Text(_tokens(job.tokens, at_most=job.at_most)))
    if job.cost is not None:
        facts.add_row("cost", Text(_cost(job)))
    head = Text(job.address, style="bold", overflow="fold")
    return Group(Text(""), head, facts, *([_batches(job.batches)] if job.batches else []))


def time_text(seconds: float) -> str:
    """A time in its largest unit, as far as an estimate goes."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Name:
    """A name on one line. What is too long is left out of its middle: jobs of one matrix differ at their ends."""

    text: str

    def __rich_measure__(self, _console: Console, _options: ConsoleOptions) -> Measurement:
        return Measurement(12, cell_len(self.text))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        width, text = options.max_width, self.text
        if cell_len(text) > width:
            before = set_cell_size(text, (width - 1) // 2)
            after = set_cell_size(text[::-1], width - 1 - cell_len(before))[::-1]
            text = f"{before}…{after}"
        yield Text(text, style="bold", no_wrap=True)


def _table(jobs: Sequence[JobStatus], *, folded: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    # The job gives way where the width is short; what it is doing never does.
    table.add_column("job", overflow="fold", min_width=12)
    table.add_column("state", overflow="fold", min_width=11, max_width=16 if folded else 24)
    for name in ("answered", "failed", "rate", "left", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for job in jobs:
        table.add_row(
            Text(job.address, style="bold") if folded else Name(job.address),
            Text(job.state + (" (!)" if job.error else ""), style=_style(job), no_wrap=not folded),
            f"{job.answered:,}/{job.requests:,}" if job.requests else "",
            Text(f"{job.failed:,}", style="red") if job.failed else "",
            f"{job.rate:,.0f}/min" if job.rate is not None else "",
            time_text(job.left) if job.left is not None else "",
            _money(job.cost),
        )
    return table


def _batches(batches: Sequence[BatchStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("batch", overflow="fold", min_width=36)  # a whole batch id
    table.add_column("state", overflow="fold")
    for name in ("answered", "failed", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for batch in batches:
        lost = " (in no lockfile)" if batch.adopted else ""
        round_ = f", round {batch.round}" if batch.round > 1 else ""
        table.add_row(
            Text(batch.batch + lost),
            Text(batch.state + round_, style="" if batch.ended else "yellow"),
            f"{batch.completed:,}/{batch.requests:,}",
            Text(f"{batch.failed:,}", style="red") if batch.failed else "",
            _money(batch.cost),
        )
    return table


def _states(jobs: Sequence[JobStatus]) -> str:
    counted = Counter("running" if job.running else job.state for job in jobs)
    return ", ".join(f"{count:,} {state}" for state, count in sorted(counted.items()))


def _errors(jobs: Sequence[JobStatus]) -> Iterator[Text]:
    """What stops jobs from being asked about, each reason once."""
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        if job.error:
            reasons.setdefault(job.error, []).append(job.address)
    for reason, addresses in reasons.items():
        whose = addresses[0] if len(addresses) == 1 else f"{addresses[0]} and {len(addresses) - 1:,} more"
        yield Text(f"(!) {whose}: {reason}", style="red")


def _style(job: JobStatus) -> str:
    if job.error or job.state in {"failed", "stopped"}:
        return "red"
    return "yellow" if job.running else "green" if job.state == "done" else ""


def _all_runs(job: JobStatus) -> Decimal | None:
    """USD of all batches of a job; None where none has a cost."""
    known = [Decimal(str(batch.cost)) for batch in job.batches if batch.cost is not None]
    return sum(known, Decimal(0)) if known else None


def _tokens(tokens: Tokens, *, at_most: bool) -> str:
    given, taken = f"in {tokens.input:,}", f"out {tokens.output:,}"
    if tokens.expected_input is not None:
        given += f" ({tokens.expected_input:,} estimated)"
    if tokens.expected_output is not None:
        taken += f" (at most {tokens.expected_output:,})" if at_most else f" ({tokens.expected_output:,} estimated)"
    return f"{given}, {taken}"


def _cost(job: JobStatus) -> str:
    """The newest run's cost beside what was estimated, and that of all runs where it is another."""
    cost, everything = Decimal(str(job.cost)), _all_runs(job)
    text = usd_text(cost)
    if job.expected is not None and not job.running:
        estimated = Decimal(str(job.expected))
        text += f", at most {usd_text(estimated)} planned" if job.at_most else f", {drift_text(cost, estimated)}"
    return text if everything in {None, cost} else f"{text}; {usd_text(everything)} in all runs"


def _link(text: str, path: Path, *, links: bool) -> Text:
    return Text(text, style=f"link {file_url(path)}" if links else "", overflow="fold")


def _money(amount: float | None) -> str:
    return "" if amount is None else usd_text(Decimal(str(amount)))
