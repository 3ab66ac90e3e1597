"""`batchspec status`: every job in one table, and what there is to say of one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.loading import load_jobs
from runner.cli.options import JobName, NoColor, Paths, Provider, Var
from runner.cli.terminal.printing import say

if TYPE_CHECKING:
    from rich.console import Console

    from runner.operations.status import JobStatus

_PAUSE = 5.0
"""Seconds between two looks of `--watch`."""
_PLAIN_EVERY = 60.0
"""Seconds between two lines of one job in a log, while its state stays the same."""

Look = Callable[[], "list[JobStatus]"]


def status(
    paths: Paths = None,
    job: JobName = None,
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
    from runner.operations.status import told_status  # noqa: PLC0415
    from runner.reconciler.observe.batch_list import BatchListCache  # noqa: PLC0415

    with ExitStack() as stack:
        lines = stack.enter_context(lines_of("status", wanted=as_json))
        project, jobs = load_jobs(paths, var, job, provider, recorded=True)
        opened = stack.enter_context(open_project(project, reads=True))

        def look() -> list[JobStatus]:
            lists = BatchListCache(opened.context.now)
            return [told_status(opened.context, spec, None if offline else lists) for spec in jobs]

        if lines is not None:
            seen = look()
            lines.status(seen)
        else:
            from runner.views.hyperlinks import links_work  # noqa: PLC0415
            from runner.views.plan_text import orphan_lines  # noqa: PLC0415
            from runner.views.status_table import details, status_view  # noqa: PLC0415  it takes rich, which costs to import

            console = out_console(no_color)
            seen = _watched(console, look) if watch and not offline else look()
            orphans = find_orphans(opened.context, ask=not offline, prune=False) if project.complete and not job else ()
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


def _watched(console: Console, look: Look) -> list[JobStatus]:
    """Look until nothing runs any more, and show it meanwhile: in place on a terminal, elsewhere in lines."""
    return _live(console, look) if console.is_terminal and not console.is_dumb_terminal else _lines(look)


def _live(console: Console, look: Look) -> list[JobStatus]:
    """A screen of its own, so that any number of jobs and a window that changes its size leave nothing behind."""
    from rich.live import Live  # noqa: PLC0415

    from runner.views.status_table import status_view  # noqa: PLC0415

    seen = look()
    with Live(
        get_renderable=lambda: status_view(seen, height=console.height),
        console=console,
        screen=True,
        refresh_per_second=2,
    ):
        while _goes_on(seen):
            time.sleep(_PAUSE)
            seen = look()
    return seen


def _lines(look: Look) -> list[JobStatus]:
    """A line for each job that has come to another state, and now and then for one that is under way."""
    from runner.views.status_table import line  # noqa: PLC0415

    said: dict[str, tuple[str, float]] = {}
    seen = look()
    while _goes_on(seen):
        now = time.monotonic()
        for job in seen:
            state, at = said.get(job.address, ("", 0.0))
            if job.state != state or (job.running and now - at >= _PLAIN_EVERY):
                said[job.address] = (job.state, now)
                say(line(job))
        time.sleep(_PAUSE)
        seen = look()
    return seen


def _goes_on(jobs: Sequence[JobStatus]) -> bool:
    """Whether a batch is running, at a service that answers or may do so again."""
    return any(job.running and (not job.error or job.passing) for job in jobs)
