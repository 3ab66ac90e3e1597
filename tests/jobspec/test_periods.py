"""Periods: names, limits in time, and which are due."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.jobspec.periods import Every, PeriodError, Schedule, schedule_of

EVERY: tuple[Every, ...] = ("hour", "day", "week", "month")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Africa/Cairo", "Asia/Kathmandu",
         "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "America/Toronto")  # fmt: skip
NAMES: dict[Every, str] = {"hour": "2000-01-01T00Z", "day": "2000-01-01", "week": "2000-W01", "month": "2000-01"}


def schedule(every: Every, zone: str = "UTC", start: str = "", after: timedelta = timedelta()) -> Schedule:
    return schedule_of(every, start or NAMES[every], "UTC" if every == "hour" else zone, after)


INSTANTS = st.datetimes(datetime(2000, 2, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SCHEDULES = st.builds(schedule, st.sampled_from(EVERY), st.sampled_from(ZONES))


@given(SCHEDULES, INSTANTS)
@example(schedule("day", "America/St_Johns"), datetime(2010, 11, 7, 2, 45, tzinfo=UTC))  # back across midnight
@example(schedule("day", "Pacific/Apia"), datetime(2011, 12, 30, 10, 0, tzinfo=UTC))  # a day that was skipped
@example(schedule("day", "America/Sao_Paulo"), datetime(2018, 11, 4, 3, 0, tzinfo=UTC))  # no midnight
def test_every_instant_is_in_exactly_one_period_and_periods_tile(periods: Schedule, instant: datetime) -> None:
    found = periods.containing(instant)
    assert found.begins <= instant < found.ends
    before, after = periods.containing(found.begins - timedelta(microseconds=1)), periods.containing(found.ends)
    assert before.ends == found.begins
    assert after.begins == found.ends
    assert before.name < found.name < after.name
    assert periods.period(found.name) == found


@given(SCHEDULES, st.integers(0, 400))
def test_due_periods_are_those_that_ended_oldest_first(periods: Schedule, count: int) -> None:
    listed = list(islice(periods.periods(lambda _: True), count + 1))
    last = listed[-1]
    assert list(periods.due(last.ends - timedelta(seconds=1))) == listed[:-1]
    assert list(periods.due(last.ends)) == listed


@pytest.mark.parametrize(
    ("every", "zone", "name", "begins", "hours"),
    [
        ("hour", "UTC", "2026-11-01T05Z", "2026-11-01T05:00", 1),
        ("day", "UTC", "2026-11-01", "2026-11-01T00:00", 24),
        ("day", "Europe/Berlin", "2026-03-29", "2026-03-28T23:00", 23),
        ("day", "Europe/Berlin", "2026-10-25", "2026-10-24T22:00", 25),
        ("day", "America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", 23),
        ("week", "Europe/Berlin", "2026-W44", "2026-10-25T23:00", 168),
        ("week", "UTC", "2026-W53", "2026-12-28T00:00", 168),
        ("month", "Europe/Berlin", "2026-10", "2026-09-30T22:00", 745),
    ],
)
def test_where_a_period_begins_and_ends(every: Every, zone: str, name: str, begins: str, hours: int) -> None:
    found = schedule(every, zone).period(name)
    assert (found.name, found.begins.isoformat()) == (name, f"{begins}:00+00:00")
    assert found.ends - found.begins == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("every", "value", "hint"),
    [
        ("hour", "2026-11-01T05", "2026-11-01T05Z"),
        ("hour", "2026-11-01T05:00:00Z", "2026-11-01T05Z"),
        ("hour", "2026-11-01", "write it as 2026-11-01T00Z"),
        ("hour", "2026-11-01T24Z", "write it as 2026-11-01T00Z"),
        ("day", "2026-11-1", "2026-11-01"),
        ("day", "20261101", "2026-11-01"),
        ("day", "2026/11/01", "2026-11-01"),
        ("day", "2026-11-01T05Z", "2026-11-01"),
        ("day", "2026-02-30", "write it as 2026-11-01"),
        ("day", "yesterday", "write it as 2026-11-01"),
        ("day", "\u0662\u0660\u0662\u0666-11-01", "write it as 2026-11-01"),
        ("week", "2026W44", "2026-W44"),
        ("week", "2026-w4", "2026-W04"),
        ("week", "2026-11-01", "2026-W44"),
        ("week", "2026-W54", "write it as 2026-W44"),
        ("month", "2026-11-01", "2026-11"),
        ("month", "2026-1", "2026-01"),
        ("month", "0001-01", "write it as 2026-11"),
    ],
)
def test_another_spelling_is_an_error_that_shows_the_right_one(every: Every, value: str, hint: str) -> None:
    article = "an" if every == "hour" else "a"
    with pytest.raises(PeriodError, match=f"^{re.escape(value)} is not the name of {article} {every}; .*{hint}$"):
        schedule(every).period(value)


@pytest.mark.parametrize(
    ("every", "start", "zone", "message"),
    [
        ("week", "2026-11-01", "UTC", "begins no week; the weeks around it begin on 2026-10-26 and 2026-11-02"),
        ("month", "2026-11-15", "UTC", "begins no month; the months around it begin on 2026-11-01 and 2026-12-01"),
        ("day", "2026-11-01", "Europe/Berlni", "there is no timezone Europe/Berlni"),
        ("day", "2026-11-01", "../../etc/passwd", "there is no timezone"),
        ("day", "2026-11-01", "/etc/localtime", "there is no timezone"),
        ("day", "2026-11-01", "Europe", "there is no timezone Europe"),
        ("day", "2026-11-01T05Z", "UTC", "not the name of a day; write 2026-11-01"),
    ],
)
def test_what_is_no_start(every: Every, start: str, zone: str, message: str) -> None:
    with pytest.raises(PeriodError, match=message):
        schedule_of(every, start, zone)


def test_a_start_is_a_period_or_the_day_on_which_it_begins() -> None:
    assert schedule_of("week", "2026-W45") == schedule_of("week", "2026-11-02")
    assert schedule_of("month", "2026-11") == schedule_of("month", "2026-11-01")
    assert schedule_of("hour", "2026-11-01T00Z") == schedule_of("hour", "2026-11-01")


def test_after_delays_and_start_bounds() -> None:
    daily = schedule("day", "Europe/Berlin", "2026-11-01", timedelta(hours=2))
    assert [one.name for one in daily.due(datetime(2026, 11, 3, 0, 59, tzinfo=UTC))] == ["2026-11-01"]
    assert [one.name for one in daily.due(datetime(2026, 11, 3, 1, 0, tzinfo=UTC))] == ["2026-11-01", "2026-11-02"]
    with pytest.raises(PeriodError, match=r"2026-10-31 is before the `start` of this job, 2026-11-01"):
        daily.period("2026-10-31")
