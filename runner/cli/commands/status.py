"""`batchspec status`: all jobs in one table, and details of one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.loading import load_jobs
from runner.cli.options import Exclude, JobName, NoColor, Paths, Provider, Select, Var
from runner.cli.terminal.printing import say

if TYPE_CHECKING:
    from runner.operations.status import JobStatus


def status(
    paths: Paths = None,
    job: JobName = None,
    select: Select = None,
    exclude: Exclude = None,
    var: Var = None,
    provider: Provider = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use the lockfile only; don't contact the service.")
    ] = False,
    batches: Annotated[
        bool, typer.Option("--batches", "-b", help="Show every job's output and batches, as for a single job.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until no batch is running.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON line per job to stdout, for programs.")
    ] = False,
    no_color: NoColor = False,
) -> None:
    """Show each job's state, progress and cost so far. Renders nothing.

    For a partitioned job, shows the partitions in the lockfile. Also shows running batches of jobs that no spec
    defines any more.
    """
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.terminal.json_writer import lines_of  # noqa: PLC0415
    from runner.cli.terminal.printing import out_console  # noqa: PLC0415
    from runner.operations.orphans import find_orphans  # noqa: PLC0415
    from runner.operations.status import status_or_reason  # noqa: PLC0415
    from runner.reconciler.observe.batch_list import BatchListCache  # noqa: PLC0415

    with ExitStack() as stack:
        lines = stack.enter_context(lines_of("status", wanted=as_json))
        project, jobs = load_jobs(paths, var, job, provider, recorded=True, select=select, exclude=exclude)
        opened = stack.enter_context(open_project(project, reads=True))

        def look() -> list[JobStatus]:
            lists = BatchListCache(opened.context.now)
            opened.context.look_again()
            return [status_or_reason(opened.context, spec, None if offline else lists) for spec in jobs]

        if lines is not None:
            seen = look()
            lines.status(seen)
        else:
            from runner.cli.terminal.status_watch import watch_jobs  # noqa: PLC0415
            from runner.views.hyperlinks import links_work  # noqa: PLC0415
            from runner.views.plan_text import orphan_lines  # noqa: PLC0415
            from runner.views.status_table import details, status_view  # noqa: PLC0415  it takes rich, which costs to import

            console = out_console(no_color)
            seen = watch_jobs(console, look) if watch and not offline else look()
            orphans = (
                find_orphans(opened.context, ask=not offline, prune=False)
                if project.complete and not (job or select or exclude)
                else ()
            )
            if seen or not orphans:
                console.print(status_view(seen))
            for orphan in orphans:
                say("\n".join(orphan_lines(orphan)))
            places = opened.context.places
            links = links_work() and not no_color
            for spec, one in zip(jobs, seen, strict=True):
                if batches or len(jobs) == 1:
                    lockfile = places.shown(places.lockfile(spec.lock_path))
                    console.print(details(one, places.root, lockfile, links=links))
    if any(one.error for one in seen):
        raise typer.Exit(1)
