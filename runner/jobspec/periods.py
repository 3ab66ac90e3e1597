"""Periods of recurring jobs: names, limits in time, and which are due. Pure.

A period's name is its start: an hour in UTC (`2026-11-01T05Z`), a day (`2026-11-01`), an ISO week (`2026-W44`) or a
month (`2026-11`). Days, weeks and months begin at midnight of the timezone, so a day has 23 or 25 hours when clocks
change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

Every = Literal["hour", "day", "week", "month"]

_PATTERNS = {
    "hour": re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d)Z", re.ASCII),
    "day": re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII),
    "week": re.compile(r"(\d{4})-W(\d\d)", re.ASCII),
    "month": re.compile(r"(\d{4})-(\d\d)", re.ASCII),
}
_DIGITS = re.compile(r"(\d{4})\D?(\d{1,2})(?:\D?(\d{1,2}))?(?:\D+(\d{1,2}))?", re.ASCII)
_LOOSE_WEEK = re.compile(r"(\d{4})\D?[Ww](\d{1,2})(?:\D?\d)?", re.ASCII)
_EXAMPLE = datetime(2026, 11, 1)  # noqa: DTZ001  local time of the timezone
_YEARS = range(1970, 9000)
EARLIEST = datetime(1970, 1, 1)  # noqa: DTZ001  local time of the timezone
"""No period begins before this."""


class PeriodError(ValueError):
    """A value that names no period of the job; the message shows what to write."""


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One period. `begins` and `ends` are instants in UTC; `start` is the local time of its name."""

    begins: datetime
    ends: datetime
    name: str
    start: datetime


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job's periods: those from `first`, a local start, each due `after` its end."""

    every: Every
    first: datetime
    zone: str = "UTC"
    after: timedelta = timedelta()

    def period(self, name: str) -> Period:
        """Return a name's period. Raises PeriodError with the right spelling."""
        start = parse_name(self.every, name)
        if start < self.first:
            raise PeriodError(f"{name} is before the `start` of this job, {period_name(self.every, self.first)}")
        return self._period(start)

    def containing(self, instant: datetime) -> Period:
        """Return the period that contains an instant, also before `first`."""
        local = instant.astimezone(_zone(self.zone)).replace(tzinfo=None)
        found = self._period(_floor(self.every, local))
        while found.ends <= instant:  # clocks may go back across midnight, or skip a day
            found = self._period(following(self.every, found.start))
        while instant < found.begins:  # or go forward across it
            found = self._period(_floor(self.every, found.start - timedelta(minutes=1)))
        return found

    def due(self, now: datetime) -> Iterator[Period]:
        """Yield the periods due at `now`, oldest first."""
        return self.periods(lambda found: found.ends + self.after <= now)

    def starting(self, local: datetime) -> Schedule:
        """Return the schedule without periods that begin before a local time."""
        start = _floor(self.every, local)
        start = start if start >= local else following(self.every, start)
        return replace(self, first=max(self.first, start))

    def periods(self, wanted: Callable[[Period], bool]) -> Iterator[Period]:
        """Yield the periods from `first` while `wanted`, without those that a timezone skips."""
        found = self._period(self.first)
        while wanted(found):
            if found.begins < found.ends:
                yield found
            found = self._period(following(self.every, found.start))

    def _period(self, start: datetime) -> Period:
        return Period(
            self._instant(start),
            self._instant(following(self.every, start)),
            period_name(self.every, start),
            start,
        )

    def _instant(self, local: datetime) -> datetime:
        """Return when a local time is first reached; in a gap, by the time before it."""
        zone = UTC if self.every == "hour" else _zone(self.zone)
        return local.replace(tzinfo=zone).astimezone(UTC)


def schedule_of(every: Every, start: str, zone: str = "UTC", after: timedelta = timedelta()) -> Schedule:
    """Return a spec's schedule. `start` names a period, or the day on which one begins.

    Raises PeriodError for a start that begins no period and for an unknown timezone.
    """
    try:
        _zone(zone)
    except (KeyError, ValueError, OSError) as error:
        raise PeriodError(f"there is no timezone {zone[:60]}; write one such as Europe/Berlin or UTC") from error
    day = _PATTERNS["day"].fullmatch(start)
    first = parse_name("day", start) if day else parse_name(every, start)
    containing = _floor(every, first)
    if containing != first:
        later = following(every, containing)
        raise PeriodError(
            f"{start} begins no {every}; the {every}s around it begin on "
            f"{containing.date().isoformat()} and {later.date().isoformat()}"
        )
    return Schedule(every, first, zone, after)


def period_name(every: Every, start: datetime) -> str:
    """Return the name of the period that begins at a local time."""
    if every == "hour":
        return f"{start:%Y-%m-%dT%H}Z"
    if every == "week":
        year, week, _ = start.isocalendar()
        return f"{year:04}-W{week:02}"
    return start.date().isoformat() if every == "day" else f"{start:%Y-%m}"


def parse_name(every: Every, name: str) -> datetime:
    """Return the local start of a period. Raises PeriodError for any other spelling."""
    match = _PATTERNS[every].fullmatch(name)
    numbers = [int(part) for part in match.groups()] if match else []
    start = _start(every, numbers) if numbers else None
    if start is not None:
        return start
    suggested = suggestion(every, name)
    shown = f"write {suggested}" if suggested else f"write it as {period_name(every, _floor(every, _EXAMPLE))}"
    article = "an" if every == "hour" else "a"
    raise PeriodError(f"{name[:60]} is not the name of {article} {every}; {shown}")


def following(every: Every, start: datetime) -> datetime:
    """Return the start of the next period."""
    if every == "month":
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
    return start + {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}[every]


def _start(every: Every, numbers: list[int]) -> datetime | None:
    try:
        if numbers[0] not in _YEARS:
            return None
        if every == "week":
            return datetime.combine(date.fromisocalendar(numbers[0], numbers[1], 1), time())
        if every == "month":
            return datetime(numbers[0], numbers[1], 1)  # noqa: DTZ001  local time of the timezone
        return datetime(*numbers)  # type: ignore[arg-type]  # noqa: DTZ001  year, month, day and maybe hour
    except ValueError:
        return None


def suggestion(every: Every, text: str) -> str:
    """Return the probable right spelling of a name, or an empty string."""
    text = text.strip()
    if every == "week" and (week := _LOOSE_WEEK.fullmatch(text)):
        start = _start(every, [int(week[1]), int(week[2])])
        return period_name(every, start) if start else ""
    match = _DIGITS.match(text)
    if match is None:
        return ""
    year, month, day, hour = (None if part is None else int(part) for part in match.groups())
    if (day is None and every != "month") or (hour is None and every == "hour"):
        return ""
    numbers = [year, month, day or 1, *([hour] if every == "hour" else [])]
    start = _start("hour" if every == "hour" else "day", [number for number in numbers if number is not None])
    return period_name(every, _floor(every, start)) if start else ""


def _floor(every: Every, local: datetime) -> datetime:
    if every == "hour":
        return local.replace(minute=0, second=0, microsecond=0, fold=0)
    midnight = datetime.combine(local.date(), time())
    if every == "week":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1) if every == "month" else midnight


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    """Return a timezone. Raises KeyError, ValueError or OSError."""
    return ZoneInfo(name)
