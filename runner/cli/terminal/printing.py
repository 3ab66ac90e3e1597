"""The only place that writes to stdout and stderr. Text for people has no invisible characters."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import typer

from runner.base.visible import visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

_UNBROKEN = 100_000
"""Columns if there is no terminal: a reader of a pipe finds each row on one line."""


def say(text: str = "", *, end: str = "\n") -> None:
    """Print text for people to stdout."""
    write(sys.stdout, f"{text}{end}")


def say_error(text: str, *, end: str = "\n") -> None:
    """Print text for people to stderr."""
    write(sys.stderr, f"{text}{end}")


def write(stream: IO[str], text: str) -> None:
    """Write text for people to a stream, and flush."""
    stream.write(visible(text))
    stream.flush()


def write_drawn(stream: IO[str], text: str) -> None:
    """Write a `console_on` console's output, with cursor codes, and flush."""
    stream.write(text)
    stream.flush()


def give(data: str) -> None:
    """Write data for programs to stdout; on a terminal, escaped like JSON."""
    sys.stdout.write(visible_json(data) if sys.stdout.isatty() else data)
    sys.stdout.flush()


def give_bytes(data: bytes) -> None:
    """Write bytes to stdout; on a terminal, escaped like JSON."""
    if sys.stdout.isatty():
        give(data.decode(errors="surrogateescape"))
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def confirm(question: str, *, on_stderr: bool = False) -> None:
    """Ask for confirmation. Abort the command if it is denied."""
    typer.confirm(visible(question), abort=True, err=on_stderr)


def console_on(stream: IO[str] | None = None, *, color: bool, **settings: Any) -> Console:
    """Return a console, on stdout by default, that escapes invisible characters."""
    from rich.console import Console, ConsoleOptions, RenderableType  # noqa: PLC0415  rich costs to import
    from rich.segment import Segment  # noqa: PLC0415

    class Escaping(Console):
        """A console that escapes all text; what styles and moves is no text to it."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text), style, control)

    return Escaping(file=stream, no_color=not color, **settings)


def out_console(no_color: bool) -> Console:
    """Return a console on stdout: colours on a terminal only, lines unbroken elsewhere."""
    color = not no_color and not os.environ.get("NO_COLOR")
    return console_on(color=color, highlight=False, width=None if sys.stdout.isatty() else _UNBROKEN)


def show_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an unexpected error: an excepthook."""
    say_error("".join(traceback.format_exception(kind, error, trace)), end="")


def flush() -> None:
    """Flush stdout. Raises BrokenPipeError if its reader has gone."""
    sys.stdout.flush()


def drop_stdout() -> None:
    """Discard buffered output after the reader of stdout has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
