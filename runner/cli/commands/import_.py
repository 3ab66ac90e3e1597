"""`batchspec import`: adopt a batch that was created elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.base.humanize import counted
from runner.cli.completion import complete_jobs
from runner.cli.loading import load_jobs
from runner.cli.options import Provider, Var
from runner.cli.terminal.printing import say


def import_(
    address: Annotated[
        str,
        typer.Argument(
            autocompletion=complete_jobs,
            metavar="JOB",
            help="The job to add the batch to.",
            show_default=False,
        ),
    ],
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id at the service.", show_default=False)],
    requests: Annotated[Path, typer.Option("--requests", metavar="FILE", help="The request file that was uploaded.")],
    var: Var = None,
    provider: Provider = None,
) -> None:
    """Adopt a batch that was created elsewhere. The uploaded file shows which requests it answers."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.operations.imports import import_batch  # noqa: PLC0415
    from runner.views.plan_text import explain  # noqa: PLC0415

    project, jobs = load_jobs(None, var, [address], provider)
    with open_project(project) as opened:
        done = import_batch(opened.context, jobs[0], batch, requests)
        size = counted(done.requests, "request")
        say(f"Imported batch {batch} ({done.batch.status}, {size}) into {address}.")
        planned = opened.plan(jobs)
        for one in planned.prepared:
            used = done.used_by(one.desired.spool)
            say(f"{address} uses {used:,} of its {size}.")
            if used < done.requests:
                say(f"Requests match only if their bodies are equal. Compare {requests} with `batchspec render`.")
        say()
        say(explain(planned.plan), end="")
    if planned.plan.changes:
        say("To do this, run `batchspec apply`.")
