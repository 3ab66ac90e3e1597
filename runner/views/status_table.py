"""The table of `batchspec status`, and the details of a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from runner.money.prices import cost_with_estimate, usd_text
from runner.views.hyperlinks import file_url
from runner.views.job_table import JobTable, Row, fitting, shared, summary, time_text, widest

if TYPE_CHECKING:
    from runner.operations.status import BatchStatus, JobStatus, Tokens


_ID = 36
"""Columns of a whole batch id."""
_ID_FOLDED = 12
_STATE = 11
"""Minimum columns of a batch's id and of its state."""
_GAP = 2
"""Columns between two columns of the batch table."""
_SUM = "in total"
"""What the sum of costs covers: all runs."""


def status_view(jobs: Sequence[JobStatus], *, height: int | None = None) -> RenderableType:
    """Return the table and its sum. With a screen's `height`, a job has one line, running ones first."""
    rows = [_row(job) for job in jobs]
    more = [*_errors(jobs), *_not_asked(jobs), *_failures(jobs)]
    return Group(JobTable(rows, height, until=_SUM), Text(summary(rows, _SUM)), *(more if height is None else more[:2]))


def _row(job: JobStatus) -> Row:
    return Row(
        job.address,
        job.state + (" (!)" if job.error else ""),
        rank=0 if job.running else 2 if job.state == "done" else 1,
        group="running" if job.running else job.state,
        done=f"{job.answered:,}/{job.requests:,}" if job.requests else "",
        rate=f"{job.rate:,.0f}/min" if job.rate is not None else "",
        left=time_text(job.left) if job.left is not None else "",
        requests=job.requests,
        answered=job.answered,
        failed=job.failed,
        cost=None if job.cost is None else Decimal(str(job.cost)),
        style=_style(job),
    )


def line(job: JobStatus) -> str:
    """Return a job in one line, for a log."""
    facts = [f"{job.answered:,} of {job.requests:,} answered"] if job.requests else []
    facts += [f"{job.failed:,} failed"] if job.failed else []
    facts += [f"{time_text(job.left)} left"] if job.left is not None and job.running else []
    facts += [_money(job.cost)] if job.cost is not None else []
    facts += [job.error] if job.error else []
    return f"{job.address}: {', '.join([job.state, *facts])}"


def details(job: JobStatus, root: Path, lockfile: str, *, links: bool) -> RenderableType:
    """Return a job's files below `root`, tokens, costs with estimates, and batches."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    path, _, state = job.output.partition(": ")
    facts.add_row("output", Text.assemble(_link(path, root / path, links=links), f": {state}"))
    facts.add_row("lockfile", _link(lockfile, root / lockfile, links=links))
    facts.add_row("realm", Text(job.realm + ("" if job.asked else " (lockfile only)")))
    if job.tokens is not None:
        facts.add_row("tokens", Text(_tokens(job.tokens, at_most=job.at_most)))
    if job.cost is not None:
        facts.add_row("cost", Text(_cost(job)))
    head = Text(job.address, style="bold", overflow="fold")
    return Group(Text(""), head, facts, *([Batches(job.batches)] if job.batches else []))


@dataclass(frozen=True, slots=True)
class Batches:
    """The table of a job's batches. Narrow terminals fold ids, then omit columns."""

    batches: Sequence[BatchStatus]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        numbers = {
            "answered": ["answered", *(f"{batch.completed:,}/{batch.requests:,}" for batch in self.batches)],
            "failed": ["failed", *(f"{batch.failed:,}" if batch.failed else "" for batch in self.batches)],
            "cost": ["cost", *(_money(batch.cost) for batch in self.batches)],
        }
        names = [batch.batch + (" (not in the lockfile)" if batch.adopted else "") for batch in self.batches]
        states = [batch.state + (f", round {batch.round}" if batch.round > 1 else "") for batch in self.batches]
        room = options.max_width - _ID_FOLDED - _STATE - _GAP
        kept = fitting(numbers, ("answered", "cost", "failed"), room, _GAP)
        room = options.max_width - _GAP - sum(_GAP + widest(numbers[name]) for name in kept)
        name, state = widest(("batch", *names)), widest(("state", *states))
        if name + state > room:
            name, state = shared(room, (min(name, _ID), _ID_FOLDED), (state, _STATE))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("batch", overflow="fold", width=name)
        table.add_column("state", overflow="fold", width=state)
        for column in kept:
            table.add_column(column, justify="right", no_wrap=True, style="red" if column == "failed" else "")
        for row, batch in enumerate(self.batches):
            state_text = Text(states[row], style="" if batch.ended else "yellow")
            table.add_row(Text(names[row]), state_text, *(numbers[column][row + 1] for column in kept))
        yield table


def _errors(jobs: Sequence[JobStatus]) -> Iterator[Text]:
    reasons: dict[str, list[str]] = {}
    for job in jobs:
        if job.error:
            reasons.setdefault(job.error, []).append(job.address)
    for reason, addresses in reasons.items():
        label = addresses[0] if len(addresses) == 1 else f"{addresses[0]} and {len(addresses) - 1:,} more"
        yield Text(f"(!) {label}: {reason}", style="red")


def _not_asked(jobs: Sequence[JobStatus]) -> Iterator[Text]:
    """Yield, once per reason, the jobs without a key and their numbers' age."""
    reasons: dict[str, list[JobStatus]] = {}
    for job in jobs:
        if job.not_asked:
            reasons.setdefault(job.not_asked, []).append(job)
    for reason, alike in reasons.items():
        newest = max(job.since for job in alike)
        since = f" They are from {newest}." if newest else ""
        label = alike[0].address if len(alike) == 1 else f"{len(alike):,} jobs"
        yield Text(
            f"(!) The service was not asked about {label}: {reason}. These numbers come from the lockfile and local "
            f"files.{since}",
            style="yellow",
        )


def _failures(jobs: Sequence[JobStatus]) -> Iterator[Text]:
    for job in jobs:
        for text in job.failures:
            yield Text(f"(!) {job.address}: {text}", style="red")


def _style(job: JobStatus) -> str:
    if job.error or job.state in {"failed", "stopped"}:
        return "red"
    return "yellow" if job.running else "green" if job.state == "done" else ""


def _tokens(tokens: Tokens, *, at_most: bool) -> str:
    given, taken = f"in {tokens.input:,}", f"out {tokens.output:,}"
    if tokens.expected_input is not None:
        given += f" ({tokens.expected_input:,} estimated)"
    if tokens.expected_output is not None:
        taken += f" (at most {tokens.expected_output:,})" if at_most else f" ({tokens.expected_output:,} estimated)"
    return f"{given}, {taken}"


def _cost(job: JobStatus) -> str:
    estimated = None if job.expected is None or job.running else Decimal(str(job.expected))
    return cost_with_estimate(Decimal(str(job.cost)), estimated, at_most=job.at_most)


def _link(text: str, path: Path, *, links: bool) -> Text:
    return Text(text, style=f"link {file_url(path)}" if links else "", overflow="fold")


def _money(amount: float | None) -> str:
    return "" if amount is None else usd_text(Decimal(str(amount)))
