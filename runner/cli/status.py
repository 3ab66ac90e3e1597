"""`batchspec status`: every job and its batches."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import JobName, Paths, Provider, Var, load_jobs


def status(
    paths: Paths = None,
    job: JobName = None,
    var: Var = None,
    provider: Provider = None,
    offline: Annotated[bool, typer.Option("--offline", help="Show what the lockfile says only.")] = False,
) -> None:
    """Show each job's batches: their state, their counts, and where the output is. Renders nothing."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.console import quiet_logs  # noqa: PLC0415
    from runner.executor.status import job_status  # noqa: PLC0415

    project, jobs = load_jobs(paths, var, job, provider)
    quiet_logs()
    with open_project(project) as opened:
        for spec in jobs:
            asked = not offline and opened.context.has_key(spec)
            shown = job_status(opened.context, spec, ask=asked)
            typer.echo(f"{spec.address}  ({shown.realm})" + ("" if asked else "  the service was not asked"))
            for batch in shown.batches:
                counts = f"{batch.completed:,}/{batch.requests:,} answered"
                failed = f", {batch.failed:,} failed" if batch.failed else ""
                lost = "  not in the lockfile; apply adopts it" if batch.adopted else ""
                typer.echo(f"    {batch.batch}  {batch.state:<12} {counts}{failed}  round {batch.round}{lost}")
            if not shown.batches:
                typer.echo("    no batches yet")
            typer.echo(f"    output {spec.job.output.path}: {shown.output}")
