"""`batchspec forget`: remove a job from the lockfile."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runner.cli.completion import complete_jobs
from runner.cli.loading import load_project_at
from runner.cli.options import Provider, Yes
from runner.cli.terminal.printing import confirm, say
from runner.errors import BatchspecError


def forget(
    address: Annotated[
        str,
        typer.Argument(autocompletion=complete_jobs, metavar="JOB", help="The job's address, as `status` shows it."),
    ],
    provider: Provider = None,
    yes: Yes = False,
) -> None:
    """Remove a job or a partition from the lockfile. Outputs stay.

    The next apply finds answers again if the service still lists their batches. It resubmits all other requests, and
    they are paid again. It does not find imported batches; import them again.
    """
    from runner.api import open_project  # noqa: PLC0415
    from runner.operations.forget import find_records  # noqa: PLC0415
    from runner.operations.forget import forget as drop  # noqa: PLC0415
    from runner.operations.imports import is_imported  # noqa: PLC0415

    project = load_project_at(provider)
    with open_project(project) as opened:
        shown = find_records(opened.context, address)
        say(f"forget {address}: {_batches(len(shown.lines))} in {', '.join(shown.paths)}; its output files stay")
        if address in {job.address for job in project.jobs} or address.partition("[")[0] in project.partitioned:
            say("A spec still defines it: the next apply resubmits what the service no longer lists.")
        imported = [line.batch for line in shown.lines if is_imported(opened.context, line)]
        if imported:
            say(
                f"Of these, {_batches(len(imported))} can't be found in the service's list. Their requests are "
                f"resubmitted and paid again, unless you import them again with `batchspec import`: "
                f"{', '.join(imported)}"
            )
        if not yes:
            if not sys.stdin.isatty():
                raise BatchspecError(
                    "forget needs confirmation, but stdin is not a terminal",
                    hint="run it again with --yes",
                    code="BS608",
                )
            confirm("Forget it?")
        drop(opened.context, shown)


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count:,} batches"
