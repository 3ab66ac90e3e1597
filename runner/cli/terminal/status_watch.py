"""`status --watch`: poll the jobs and show their state until no batch is running."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from runner.cli.terminal.printing import say

if TYPE_CHECKING:
    from rich.console import Console

    from runner.operations.status import JobStatus

_PAUSE = 5.0
"""Seconds between two polls."""
_PLAIN_EVERY = 60.0
"""Seconds between lines of one job while its state stays the same."""

Look = Callable[[], "list[JobStatus]"]


def watch_jobs(console: Console, look: Look) -> list[JobStatus]:
    """Poll the jobs until none is running. Return the last state."""
    return _draw_live(console, look) if console.is_terminal and not console.is_dumb_terminal else _print_lines(look)


def _draw_live(console: Console, look: Look) -> list[JobStatus]:
    """Draw on the alternate screen, so that resizing leaves nothing behind."""
    from rich.live import Live  # noqa: PLC0415

    from runner.views.status_table import status_view  # noqa: PLC0415

    seen = look()
    with Live(
        get_renderable=lambda: status_view(seen, height=console.height),
        console=console,
        screen=True,
        refresh_per_second=2,
    ):
        while _any_running(seen):
            time.sleep(_PAUSE)
            seen = look()
    return seen


def _print_lines(look: Look) -> list[JobStatus]:
    from runner.views.status_table import line  # noqa: PLC0415

    printed: dict[str, tuple[str, float]] = {}
    seen = look()
    while _any_running(seen):
        now = time.monotonic()
        for job in seen:
            state, at = printed.get(job.address, ("", 0.0))
            if job.state != state or (job.running and now - at >= _PLAIN_EVERY):
                printed[job.address] = (job.state, now)
                say(line(job))
        time.sleep(_PAUSE)
        seen = look()
    return seen


def _any_running(jobs: Sequence[JobStatus]) -> bool:
    return any(job.running and (not job.error or job.passing) for job in jobs)
