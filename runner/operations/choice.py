"""What a command was asked for: patterns over jobs, and due periods. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from runner.errors import BatchspecError
from runner.jobspec.job_spec import JobSpec
from runner.jobspec.periods import Every, Period, PeriodError, Schedule, following, parse_name
from runner.reconciler.plan.partition_state import PartitionState

LIMIT = 7
"""New periods of a job that one command starts."""
STATES = ("open", "failed", "waiting")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which jobs a command is about. By default: all jobs, and open partitions.

    `select` and `exclude` are patterns. `due` adds periods that are due at `now`, at most `limit` new ones of a job,
    between the periods `since` and `until` (both included). `named` are partitions that other options name. `closed`
    includes closed partitions. `may_miss` ignores patterns without a match, for a saved plan.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    due: bool = False
    limit: int = LIMIT
    since: str = ""
    until: str = ""
    now: datetime | None = None
    named: tuple[str, ...] = ()
    closed: bool = False
    may_miss: bool = False

    def check(self, variables: Iterable[str], periods: Iterable[str]) -> None:
        """Check options against each other. `periods` are vars of the specs. Raises BatchspecError."""
        if (self.since or self.until) and not self.due:
            raise BatchspecError("--from and --to bound --due", hint="add `--due`", code="BS802")
        if self.due and (both := sorted(set(variables).intersection(periods))):
            raise BatchspecError(
                f"--due and --var {both[0]} contradict each other: --due chooses the periods",
                hint="use only one of them; `--from` and `--to` bound --due",
                code="BS802",
            )
        for pattern in (*self.select, *self.exclude):
            kind, colon, name = pattern.partition(":")
            if colon and kind == "state" and name not in STATES:
                hint = f"the states are: {', '.join(STATES)}"
                raise BatchspecError(f"there is no state {name}", hint=hint, code="BS801")
        _ = _bounds(self.since), _bounds(self.until)

    def periods(self, schedule: Schedule, now: datetime) -> Iterator[Period]:
        """Yield a schedule's due periods within the bounds, oldest first."""
        since, until = _bounds(self.since), _bounds(self.until)
        for period in (schedule if since is None else schedule.starting(since[0])).due(now):
            if until is not None and period.start >= until[1]:
                return
            yield period


def matches(pattern: str, spec: JobSpec, address: str, state: PartitionState | None, *, waiting: bool = False) -> bool:
    """Return whether a pattern chooses a job: by address or name, `tag:NAME` or `state:STATE`.

    `state` is None if unrecorded; `waiting`: a due period never started.
    """
    kind, colon, name = pattern.partition(":")
    if colon and kind == "tag":
        return name in spec.job.tags
    if colon and kind == "state":
        if name == "waiting":
            return waiting
        wanted = PartitionState.OPEN if name == "open" else PartitionState.CLOSED_FAILED
        return state is wanted
    regex = _regex(pattern)
    return bool(regex.fullmatch(address) or regex.fullmatch(spec.job.name))


def is_exact(pattern: str) -> bool:
    """Return whether a pattern can be one address only."""
    return not any(mark in pattern for mark in "*?") and not pattern.startswith(("tag:", "state:"))


def names_partitions(pattern: str) -> bool:
    """Return whether a pattern is about partitions: has a state, or values in brackets."""
    return "[" in pattern or pattern.startswith("state:")


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    """Return a glob's expression. Addresses have brackets, so only `*` and `?` are special."""
    text = re.sub(r"\*+", "*", pattern)
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in text))


def _bounds(name: str) -> tuple[datetime, datetime] | None:
    """Return a period's local start and end. Raises BatchspecError."""
    if not name:
        return None
    kinds: tuple[Every, ...] = ("day", "month", "week", "hour")
    for every in kinds:
        try:
            start = parse_name(every, name)
        except PeriodError:
            continue
        return start, following(every, start)
    raise BatchspecError(
        f"{name[:60]} is not the name of a period",
        hint="write 2026-11-01, 2026-11, 2026-W44 or 2026-11-01T05Z",
        code="BS802",
    )
