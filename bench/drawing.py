"""What the table of jobs costs on a terminal: processor time beyond what the same news costs where nothing is drawn."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TextIO

from rich.console import Console

from runner.cli.terminal.progress import Progress

_NEWS_EVERY = 0.01
"""Seconds between two pieces of news, each about another job."""


def share(jobs: int, seconds: float) -> float:
    """Return the share of one core that drawing takes, in percent, while these jobs have news."""
    with _terminal() as stream:
        drawn = _follow(Progress(_unheard, partial(_console, stream)), jobs, seconds)
    return max(0.0, drawn - _follow(Progress(_unheard, None), jobs, seconds)) / seconds * 100


def _follow(progress: Progress, jobs: int, seconds: float) -> float:
    """Processor time, in seconds, of telling for so long that the jobs are rendered. Imports are over before."""
    names = [f"reviews[model={number}]" for number in range(jobs)]
    progress.expect(dict.fromkeys(names, 10**6))
    progress.update(f"render {names[0]}", 1, 10**9, 0, "")
    used, end, count = time.process_time(), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
        progress.update(f"render {names[count % jobs]}", count * 10**5, 10**9, 0, "")
        time.sleep(_NEWS_EVERY)
    used = time.process_time() - used
    progress.clear()
    return used


@contextmanager
def _terminal() -> Iterator[TextIO]:
    """Open a terminal that another process reads."""
    outer, inner = pty.openpty()
    with subprocess.Popen(["cat"], stdin=outer, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        os.close(outer)
        with os.fdopen(inner, "w", encoding="utf-8") as stream:
            yield stream
        reader.terminate()


def _console(stream: TextIO) -> Console:
    return Console(file=stream, force_terminal=True, width=120, height=50)


def _unheard(_: str) -> None:
    pass
