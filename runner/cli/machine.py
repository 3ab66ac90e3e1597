"""`--json`: lines for machines on stdout, while logs and errors stay on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from runner.executor.pins import tool
from runner.reconciler.machine import (
    EventLine,
    ExitLine,
    MachineLine,
    OutcomeLine,
    ProgressLine,
    VersionLine,
    dump,
    plan_lines,
)

if TYPE_CHECKING:
    from runner.executor.run import Outcome
    from runner.reconciler.plan import Plan

_EVERY = 5.0
"""Seconds between two progress lines of one kind."""


class Lines:
    """A watcher that writes lines. The version line comes first."""

    def __init__(self, command: Literal["plan", "apply"], *, events: bool) -> None:
        self._events = events
        self._said: dict[str, float] = {}
        self._write(VersionLine(tool=tool(), command=command))

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
                )
            )
        self._write(ExitLine(code=code))

    def event(self, name: str, **fields: object) -> None:
        """Write an event."""
        if self._events:
            plain: dict[str, Any] = json.loads(json.dumps(fields, default=str))
            self._write(EventLine(event=name, fields=plain))

    def progress(self, what: str, done: int, total: int, failed: int = 0) -> None:
        """Write how far something is, at its end and every few seconds."""
        now = time.monotonic()
        if self._events and (done == total or now - self._said.get(what, 0.0) >= _EVERY):
            self._said[what] = now
            self._write(ProgressLine(what=what, done=done, total=total, failed=failed))

    def _write(self, line: MachineLine) -> None:
        sys.stdout.write(dump(line))
        sys.stdout.flush()
