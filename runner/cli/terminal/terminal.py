"""What people see on stderr: errors, events and progress, as a live table or plain lines."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TextIO

from runner.base.humanize import counted
from runner.base.log_context import fields as logged
from runner.base.visible import visible, visible_fields
from runner.cli.terminal.printing import console_on, write
from runner.cli.terminal.progress import Progress
from runner.errors import BatchspecError, InputError, Problem, SpecError, read_more

_EXCERPT = 120
"""Characters of a line that are shown above the caret."""

_EVENTS = {
    "batch.adopted": "{job}: adopted batch {batch}, which was not in the lockfile; requests: {requests:,}",
    "batch.cancelled": "{job}: asked to cancel batch {batch}; it is {state}",
    "batch.submitted": "{job}: submitted batch {batch}, requests: {requests:,}",
    "batch.fetched": "{job}: batch {batch} has {state}: answers: {answers:,}, failed: {failed:,}",
    "answers.salvaged": "{job}: recovered {answers:,} answers of batch {batch} from the output file",
    "batch.failed": "{job}: batch {batch} failed: {reason}",
    "batch.missing": "{job}: the service no longer knows batch {batch}; waiting up to {seconds} s for it to reappear",
    "create.refused": "{job}: {reason}; nothing more is submitted",
    "queue.full": "{job}: the service's queue is full ({reason}); nothing was billed, next try in {seconds} s",
    "create.doubtful": "{job}: no response to the create request; checking for the batch in {seconds} s",
    "job.renamed": "{job}: took over the batches of {old}",
    "create.lost": "{job}: no response to the create request ({reason}); checking for the batch",
    "lock.waiting": "waiting for {holder}, which is writing",
    "notify.failed": "warning: `notify` could not send its message: {reason}",
    "output.kept": "kept a copy of the replaced output at {path}; it may contain the only copy of some answers",
    "output.written": "{job}: wrote {path} ({rows})",
    "results.gone": "{job}: the results of batch {batch} are no longer available ({reason})",
    "results.late": "{job}: results are not available yet ({reason}); still waiting",
    "service.silent": "service unreachable ({reason}); still waiting",
}


def error_text(error: BatchspecError) -> str:
    """Return an error for people. The last line names the command to read more."""
    if isinstance(error, (SpecError, InputError)):
        lines = [problem_text(problem) for problem in error.problems]
    else:
        lines = [f"Error: {error.coded()}"]
    if error.hint:
        lines.append(f"{error.hint[:1].upper()}{error.hint[1:]}{'' if error.hint.endswith(('?', '.')) else '.'}")
    return "\n".join([*lines, *filter(None, (read_more(error.codes),)), ""])


def problem_text(problem: Problem) -> str:
    """Return a problem with its line and a caret below the column, if known."""
    text = visible(str(problem))
    if not problem.excerpt:
        return text
    if problem.column <= 0:
        return f"{text}\n    {visible(problem.excerpt[:_EXCERPT].replace(chr(9), ' '))}"
    from rich.cells import cell_len  # noqa: PLC0415  a letter may be two columns wide, or none

    start = max(0, problem.column - 1 - _EXCERPT // 2) if problem.column > _EXCERPT else 0
    line = problem.excerpt[start : start + _EXCERPT].replace("\t", " ")
    before = visible(line[: problem.column - 1 - start])
    return f"{text}\n    {visible(line)}\n    {' ' * cell_len(before)}^"


class Terminal:
    """A watcher that shows events and progress on stderr. Use as a context manager."""

    def __init__(self, *, verbose: int = 0, log_format: str = "console", no_color: bool = False) -> None:
        if log_format not in {"console", "json"}:
            raise BatchspecError("--log-format must be console or json", code="BS802")
        self._log = configure_logs(verbose, log_format, no_color) if verbose or log_format == "json" else None
        color = not no_color and not os.environ.get("NO_COLOR")
        live = _is_live() and self._log is None
        self._stderr = sys.stderr
        self._progress = Progress(self._progress_line, partial(console_on, self._stderr, color=color) if live else None)
        if live:
            sys.stderr = _StderrAboveTable(self._stderr, self._progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        sys.stderr = self._stderr

    def event(self, name: str, **fields: object) -> None:
        """Show an event, as a log entry or a sentence."""
        if self._log is not None:
            self._log.info(name, **fields)
            return
        match name, fields:
            case "batch.submitted", {"job": str(job)}:
                self._progress.submitted(job)
            case "output.written", {"rows": int(rows)}:
                fields["rows"] = counted(rows, "row")
            case "batch.fetched", {"job": str(job), "answers": int(answers), "cost": float() | None as cost}:
                self._progress.fetched(job, answers, cost)
            case "job.ended", {"job": str(job), "end": str(end)}:
                self._progress.ended(job, end)
        if name in _EVENTS:
            self._progress.line(_EVENTS[name].format_map(fields))

    def expect(self, jobs: Mapping[str, int]) -> None:
        """Show these jobs, with their numbers of requests."""
        self._progress.expect(jobs)

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Show the progress of `what`."""
        self._progress.update(what, done, total, failed, note)

    def _progress_line(self, text: str) -> None:
        if self._log is not None:
            self._log.info("work.counted", told=text)
        else:
            write(self._stderr, f"{text}\n")

    def clear(self) -> None:
        """Erase the table, before a question."""
        self._progress.clear()


def _is_live() -> bool:
    """Return whether stderr is an interactive terminal; some CI services fake one."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"} and "CI" not in os.environ


class _StderrAboveTable(io.TextIOBase):
    def __init__(self, stream: TextIO, progress: Progress) -> None:
        self._stream = stream
        self._progress = progress
        self._begun = ""

    def write(self, text: str) -> int:
        if not self._progress.shown:
            self._begun = ""
            write(self._stream, text)
            return len(text)
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._progress.line(line)
        return len(text)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def _with_fields(_logger: object, _name: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the current job, shard and batch to a log entry; its own fields win."""
    return {**logged(), **entry}


def configure_logs(verbose: int, log_format: str, no_color: bool) -> Any:
    """Set up structlog on stderr. Return a logger."""
    import structlog  # noqa: PLC0415  it costs to import, and most commands log nothing

    plain = no_color or bool(os.environ.get("NO_COLOR")) or not sys.stderr.isatty()
    renderers: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [
            structlog.processors.format_exc_info,
            visible_fields,
            structlog.dev.ConsoleRenderer(colors=not plain, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    structlog.configure(
        processors=[
            _with_fields,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose > 1 else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    return structlog.get_logger()
