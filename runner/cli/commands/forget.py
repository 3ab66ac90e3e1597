"""`batchspec forget`: drop an address from its lockfile."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from runner.cli.completion import complete_jobs
from runner.cli.loading import load_project_at
from runner.cli.options import Provider
from runner.cli.terminal.printing import confirm, say
from runner.errors import BatchspecError


def forget(
    address: Annotated[
        str,
        typer.Argument(
            autocompletion=complete_jobs, metavar="JOB", help="The address, as `status` and the lockfile show it."
        ),
    ],
    provider: Provider = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask; needed where there is no terminal.")] = False,
) -> None:
    """Drop a job or a partition from the lockfile. Outputs stay.

    Answers of batches that the service still lists for it are found again by the next apply; all others are asked, and
    paid, again. A batch that was imported is of the latter, until it is imported again.
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
            say("A spec still has it: the next apply asks again what the service does not list any more.")
        taken_in = [line.batch for line in shown.lines if is_imported(opened.context, line)]
        if taken_in:
            say(
                f"Of these, {_batches(len(taken_in))} can't be found again by the service's list, and the answers are "
                f"asked and paid again unless `batchspec import` takes them in again: {', '.join(taken_in)}"
            )
        if not yes:
            if not sys.stdin.isatty():
                raise BatchspecError("there is nobody to ask", hint="run it with --yes", code="BS608")
            confirm("Forget it?")
        drop(opened.context, shown)


def _batches(count: int) -> str:
    return "1 batch" if count == 1 else f"{count:,} batches"
