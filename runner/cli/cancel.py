"""`batchspec cancel`: end a job's batches."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runner.cli.options import Provider, load_jobs
from runner.errors import BatchspecError


def cancel(
    address: Annotated[str, typer.Argument(help="The job whose batches are cancelled.", show_default=False)],
    batch: Annotated[str | None, typer.Option("--batch", help="Only this batch of it.")] = None,
    provider: Provider = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask; needed where there is no terminal.")] = False,
) -> None:
    """Cancel the batches of a job that have not ended. Answers they have given are kept and billed."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.console import quiet_logs  # noqa: PLC0415
    from runner.executor.status import Lists, cancel_batch, job_status  # noqa: PLC0415

    project, jobs = load_jobs(None, None, [address], provider)
    quiet_logs()
    with open_project(project) as opened:
        running = [b for b in job_status(opened.context, jobs[0], Lists(opened.context)).batches if not b.ended]
        if batch is not None:
            running = [b for b in running if b.batch == batch]
            if not running:
                raise BatchspecError(f"{address} has no running batch {batch}", hint="`batchspec status` shows them")
        if not running:
            typer.echo(f"{address} has no running batch.")
            return
        for one in running:
            typer.echo(f"cancel batch {one.batch}: {one.state}, {one.completed:,} of {one.requests:,} answered")
        if not yes:
            if not sys.stdin.isatty():
                raise BatchspecError("there is nobody to ask", hint="run it with --yes")
            typer.confirm("Cancel? What is answered is kept and billed.", abort=True)
        for one in running:
            typer.echo(f"{one.batch}: {cancel_batch(opened.context, jobs[0], one.batch)}")
    typer.echo("`batchspec apply` fetches what was answered; it would also ask again what was not.")
