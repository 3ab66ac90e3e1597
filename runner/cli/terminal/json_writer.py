"""`--json`: lines for programs on stdout. Logs and errors stay on stderr."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from runner.cli.terminal.printing import give
from runner.errors import BatchspecError, disk_error
from runner.money.prices import usd
from runner.reconciler.observe.lockfile_pins import tool
from runner.views.json_lines import dump, error_lines, plan_lines
from runner.views.json_models import (
    Command,
    ErrorLine,
    EventLine,
    ExitLine,
    MachineLine,
    OutcomeLine,
    ProgressLine,
    StatusLine,
    VerifiedLine,
    VersionLine,
)

if TYPE_CHECKING:
    from runner.executor.outcome import Outcome
    from runner.operations.status import JobStatus
    from runner.operations.verify import Verified
    from runner.reconciler.plan.plan import Plan

_EVERY = 5.0
"""Seconds between two progress lines of one kind."""


def lines_of(command: Command, *, wanted: bool) -> AbstractContextManager[JsonWriter | None]:
    """Return a context that gives a JsonWriter if `wanted`, else None."""
    return JsonWriter(command) if wanted else nullcontext()


def tell_error(arguments: Sequence[str], error: BatchspecError) -> None:
    """Write the error that ended a command, unless its own lines did."""
    written, JsonWriter.error_written = JsonWriter.error_written, False
    if written:
        return
    command = next((one for one in get_args(Command) if arguments[:1] == [one]), None)
    if command is not None:
        JsonWriter(command).failed(error)
        return
    for line in error_lines(error):
        give(dump(line))


class JsonWriter:
    """A watcher that writes lines: the version first, an error that ends the command last.

    Use as a context manager around the whole command.
    """

    error_written: ClassVar[bool] = False
    """Whether the last command's error was written as a line."""

    def __init__(self, command: Command) -> None:
        JsonWriter.error_written = False
        self._events = command == "apply"
        self._exited = False
        self._last_written: dict[str, float] = {}
        self._write(VersionLine(tool=tool(), command=command))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            self.failed(disk_error(error))
        elif isinstance(error, BatchspecError):
            self.failed(error)
        elif error is not None and not self._exited:
            self._exit(130 if isinstance(error, KeyboardInterrupt) else 1)

    def failed(self, error: BatchspecError) -> None:
        """Write the error that ends the command."""
        for line in error_lines(error):
            self._write(line)
        self._exit(1)
        JsonWriter.error_written = True

    def plan(self, plan: Plan) -> None:
        """Write a plan."""
        for line in plan_lines(plan):
            self._write(line)

    def outcomes(self, outcomes: Sequence[Outcome], code: int) -> None:
        """Write how the jobs ended, and the exit code."""
        for outcome in outcomes:
            failed = outcome.plan.tally.failed if outcome.plan else 0
            self._write(
                OutcomeLine(
                    job=outcome.address,
                    end=outcome.end,
                    submitted=outcome.submitted,
                    failed=failed,
                    message=outcome.message,
                    running=outcome.running,
                    codes=outcome.codes,
                    cost=_usd(outcome.cost),
                    expected=_usd(outcome.expected, at_most=outcome.at_most),
                    earlier=_usd(outcome.earlier),
                    failures=outcome.failures or None,
                )
            )
        self._exit(code)

    def status(self, jobs: Iterable[JobStatus]) -> None:
        """Write jobs and their batches."""
        for job in jobs:
            fields = asdict(job)
            del fields["at_most"]  # a word for people
            fields |= {name: fields[name] or None for name in ("failures", "not_asked", "since")}
            self._write(StatusLine(job=fields.pop("address"), **fields))

    def verified(self, found: Verified) -> None:
        """Write a job's verification."""
        self._write(VerifiedLine(job=found.address, verified=not found.wrong, right=found.right, wrong=found.wrong))

    def errors(self, errors: Mapping[str, BatchspecError]) -> None:
        """Write errors of jobs, by address."""
        for address, error in errors.items():
            self._write(ErrorLine(job=address, message=error.message, hint=error.hint or None, codes=error.codes))

    def event(self, name: str, **fields: object) -> None:
        """Write an event."""
        if self._events:
            plain: dict[str, Any] = json.loads(json.dumps(fields, default=str))
            self._write(EventLine(event=name, fields=plain))

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        """Write progress at the end and every few seconds."""
        what = f"{what} ({note})" if note else what
        now = time.monotonic()
        if self._events and (done == total or now - self._last_written.get(what, 0.0) >= _EVERY):
            self._last_written[what] = now
            self._write(ProgressLine(what=what, done=done, total=total, failed=failed))

    def _exit(self, code: int) -> None:
        if self._events:
            self._exited = True
            self._write(ExitLine(code=code))

    def _write(self, line: MachineLine) -> None:
        give(dump(line))


def _usd(amount: Decimal | None, *, at_most: bool = False) -> float | None:
    return None if amount is None else float(usd(amount, at_most=at_most))
