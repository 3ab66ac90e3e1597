"""`batchspec status`: every job and its batches, in one table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.options import JobName, Json, NoColor, Paths, Provider, Var, load_jobs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from runner.executor.status import JobStatus

_PAUSE = 5.0
"""Seconds between two looks of `--watch`."""


def status(
    paths: Paths = None,
    job: JobName = None,
    var: Var = None,
    provider: Provider = None,
    offline: Annotated[bool, typer.Option("--offline", help="Show what the lockfile says only.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep it fresh until no batch is running.")] = False,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Show each job's batches: their state, their counts, and where the output is. Renders nothing."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.console import out_console  # noqa: PLC0415
    from runner.executor.status import Lists, job_status  # noqa: PLC0415

    project, jobs = load_jobs(paths, var, job, provider)
    with open_project(project) as opened:

        def look() -> list[JobStatus]:
            lists = Lists(opened.context)
            return [
                job_status(opened.context, spec, None if offline or not opened.context.has_key(spec) else lists)
                for spec in jobs
            ]

        if as_json:
            import json  # noqa: PLC0415
            from dataclasses import asdict  # noqa: PLC0415

            for shown in look():
                typer.echo(json.dumps(asdict(shown)))
            return
        console = out_console(no_color)
        if watch and not offline:
            _watch(console, look)
        else:
            console.print(_table(look()))


def _watch(console: Console, look: Callable[[], list[JobStatus]]) -> None:
    """The table, fresh: in place on a terminal, elsewhere again where it has changed."""
    from rich.live import Live  # noqa: PLC0415

    seen = look()
    if console.is_terminal:
        with Live(_table(seen), console=console, auto_refresh=False) as live:
            while _running(seen):
                time.sleep(_PAUSE)
                seen = look()
                live.update(_table(seen), refresh=True)
        return
    console.print(_table(seen))
    while _running(seen):
        time.sleep(_PAUSE)
        before, seen = seen, look()
        if seen != before:
            console.print(_table(seen))


def _running(jobs: Iterable[JobStatus]) -> bool:
    return any(not batch.ended for job in jobs for batch in job.batches)


def _table(jobs: Iterable[JobStatus]) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    # A batch's id has 36 characters, and the whole has to fit into 80.
    table.add_column("job, output, batches", overflow="fold", min_width=36)
    table.add_column("state", overflow="fold")
    for name in ("answered", "failed", "cost"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name) if name != "cost" else 9)
    for job in jobs:
        asked = "" if job.asked else " (lockfile only)"
        head = Text.assemble((job.address, "bold"), f"\n{_output(job)}")
        table.add_row(head, Text(job.realm + asked), "", "", _money(job.cost))
        for batch in job.batches:
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


def _output(job: JobStatus) -> str:
    """The output, and how the job's cost compares with what was expected."""
    from decimal import Decimal  # noqa: PLC0415

    from runner.money.prices import drift_text  # noqa: PLC0415

    if job.cost is None or job.expected is None:
        return job.output
    return f"{job.output}; cost {drift_text(Decimal(str(job.cost)), Decimal(str(job.expected)))}"


def _money(amount: float | None) -> str:
    from decimal import Decimal  # noqa: PLC0415

    from runner.money.prices import usd_text  # noqa: PLC0415

    return "" if amount is None else usd_text(Decimal(str(amount)))
