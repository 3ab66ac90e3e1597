"""What `batchspec status` shows: its jobs as rows of the table, and below it what there is to say of one job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from runner.cli.links import file_url
from runner.cli.table import Jobs, Row, summary, time_text
from runner.money.prices import beside_text, usd_text

if TYPE_CHECKING:
    from runner.executor.status import BatchStatus, JobStatus, Tokens


_SUM = "until now in all runs"
"""What the sum of costs is that of."""


def board(jobs: Sequence[JobStatus], *, height: int | None = None) -> RenderableType:
    """The table and its sum. On a screen of `height` lines a job has one, and those that run come first."""
    rows = [_row(job) for job in jobs]
    errors = list(_errors(jobs))
    return Group(Jobs(rows, height, until=_SUM), Text(summary(rows, _SUM)), *(errors if height is None else errors[:2]))


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
        paid=_all_runs(job),
        style=_style(job),
    )


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


def _batches(batches: Sequence[BatchStatus]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("batch", overflow="fold", min_width=36)  # a whole batch id
    table.add_column("state", overflow="fold")
    for name in ("answered", "failed", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for batch in batches:
        lost = " (not in the lockfile)" if batch.adopted else ""
        round_ = f", round {batch.round}" if batch.round > 1 else ""
        table.add_row(
            Text(batch.batch + lost),
            Text(batch.state + round_, style="" if batch.ended else "yellow"),
            f"{batch.completed:,}/{batch.requests:,}",
            Text(f"{batch.failed:,}", style="red") if batch.failed else "",
            _money(batch.cost),
        )
    return table


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
    estimated = None if job.expected is None or job.running else Decimal(str(job.expected))
    text = beside_text(cost, estimated, at_most=job.at_most)
    return text if everything in {None, cost} else f"{text}; {usd_text(everything)} in all runs"


def _link(text: str, path: Path, *, links: bool) -> Text:
    return Text(text, style=f"link {file_url(path)}" if links else "", overflow="fold")


def _money(amount: float | None) -> str:
    return "" if amount is None else usd_text(Decimal(str(amount)))
