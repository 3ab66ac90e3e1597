"""`batchspec cancel`: cancel a job's batches."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.completion import complete_jobs
from runner.cli.loading import load_project_at, only_job
from runner.cli.options import Provider, Yes
from runner.cli.terminal.printing import confirm, say
from runner.errors import BatchspecError, Conflict
from runner.jobspec.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.context import Context
    from runner.jobspec.loader import JobSpec


def cancel(
    address: Annotated[
        str,
        typer.Argument(
            autocompletion=complete_jobs, metavar="JOB", help="The job whose batches to cancel.", show_default=False
        ),
    ],
    batch: Annotated[str | None, typer.Option("--batch", help="Cancel only this batch.")] = None,
    provider: Provider = None,
    yes: Yes = False,
) -> None:
    """Cancel a job's running batches. Answers given so far are kept and billed."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.operations.status import job_status  # noqa: PLC0415
    from runner.reconciler.observe.batch_list import BatchListCache  # noqa: PLC0415

    project = load_project_at(provider)
    if address.partition("[")[0] in project.partitioned:
        project, job = only_job(address, provider)
        jobs = [job]
    else:
        jobs = [job for job in project.jobs if job.address == address]
    with open_project(project) as opened:
        if not jobs:
            _cancel_orphan(opened.context, address, yes=yes)
            return
        batches = job_status(opened.context, jobs[0], BatchListCache(opened.context.now)).batches
        running = [one for one in batches if not one.ended and batch in {None, one.batch}]
        if batch is not None and not running:
            raise BatchspecError(
                f"{address} has no running batch {batch}",
                hint="run `batchspec status` to see its batches",
                code="BS807",
            )
        if not running:
            say(f"{address} has no running batch.")
            lines = opened.context.lockfile(jobs[0].lock_path).batches
            waiting = [one.batch for one in batches if one.batch not in lines or not lines[one.batch].ended]
            if waiting:
                say(f"Ended but not fetched yet: {', '.join(waiting)}. Fetch the answers with `batchspec apply`.")
            return
        for one in running:
            say(f"cancel batch {one.batch}: {one.state}, {one.completed:,} of {one.requests:,} answered")
        _ask(yes=yes)
        _cancel(opened.context, jobs[0], [one.batch for one in running])
    say("`batchspec apply` fetches the answers given so far; it also resubmits the unanswered requests.")


def _cancel(context: Context, spec: JobSpec, batches: Sequence[str]) -> None:
    from runner.operations.status import cancel_batch  # noqa: PLC0415

    refused = []
    for batch in batches:
        try:
            say(f"{batch}: {cancel_batch(context, spec, batch)}")
        except Conflict as conflict:
            say(f"{batch}: not cancelled")
            refused.append(f"{spec.address}: the service refused to cancel batch {batch} ({conflict.message})")
    if refused:
        raise BatchspecError(
            "\n".join(refused),
            hint=f"it keeps running, and its answers are billed. To try again: `batchspec cancel {spec.address}`",
            code="BS807",
        )


def _cancel_orphan(context: Context, address: str, *, yes: bool) -> None:
    from runner.operations.orphans import find_orphans, prune  # noqa: PLC0415

    orphans = [orphan for orphan in find_orphans(context, ask=True, prune=True) if orphan.address == address]
    if not orphans:
        known = {job.address for job in context.project.jobs}
        known |= {name for path in context.lock_paths() for name in context.lockfile(path).addresses()}
        raise BatchspecError(
            f"no spec defines a job {address}, and no lockfile records an open batch of it",
            hint=did_you_mean(address, sorted(known)) or f"the jobs are: {', '.join(sorted(known)) or 'none'}",
            code="BS807",
        )
    for orphan in orphans:
        say(f"no spec defines {address} any more")
        for batch in orphan.cancel:
            say(f"cancel batch {batch}: it is running")
        for batch in orphan.fetch:
            say(f"fetch batch {batch}: it has ended")
    _ask(yes=yes)
    problems = prune(context, orphans)
    if problems:
        raise BatchspecError("\n".join(problems), code="BS807")
    say("Done. The answers given so far are saved.")


def _ask(*, yes: bool) -> None:
    if not yes:
        if not sys.stdin.isatty():
            raise BatchspecError(
                "cancel needs confirmation, but stdin is not a terminal", hint="run it again with --yes", code="BS608"
            )
        confirm("Cancel? Answers given so far are kept and billed.")
