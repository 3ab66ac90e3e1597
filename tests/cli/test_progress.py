"""Long work says how far it is, how fast, and how long the rest takes: bars on a terminal, else a line now and then."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from runner.cli.progress import Progress


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("what", "total", "says"),
    [
        pytest.param("render j", 480_000_000, "render j: 180.0/480.0 MB, 12.0 MB/s, 25 s left", id="bytes"),
        pytest.param("upload j", 6_000_000_000, "upload j: 2.25/6.00 GB, 150.0 MB/s, 25 s left", id="gigabytes"),
        pytest.param("fetch j", 90_000, "fetch j: 33.8/90.0 KB, 2.2 KB/s, 25 s left", id="kilobytes"),
        pytest.param("write out/j.jsonl", 80_000, "write out/j.jsonl: 30,000/80,000, 2,000/s, 25 s left", id="rows"),
        pytest.param("answers j", 48, "answers j: 18/48, 72/min, 25 s left", id="a slow service"),
    ],
)
def test_plain_lines_say_amount_rate_and_time_left(clock: Clock, what: str, total: int, says: str) -> None:
    lines: list[str] = []
    shown = Progress(lines.append, None, clock)
    for step in range(5):
        shown.update(what, total * step // 8, total, 0, "")
        clock.now += 5
    assert lines == [says]


def test_plain_lines_are_sparse(clock: Clock) -> None:
    """A day of waiting is a screen or two of a log, and short work is not worth a line."""
    lines: list[str] = []
    shown = Progress(lines.append, None, clock)
    shown.update("answers j", 0, 50_000, 0, "validating")
    for minute in range(24 * 60):
        clock.now += 60
        shown.update("answers j", minute * 34, 50_000, 3, "in_progress")
    assert 100 < len(lines) < 250
    assert lines[-1].endswith("h left (in_progress)") or lines[-1].endswith("min left (in_progress)")
    assert ", 3 failed, " in lines[-1]
    lines.clear()
    for done in range(0, 1_001, 10):
        clock.now += 0.1
        shown.update("write out/j.jsonl", done, 1_000, 0, "")
    assert lines == []


def test_what_was_done_before_counts_for_no_rate(clock: Clock) -> None:
    lines: list[str] = []
    shown = Progress(lines.append, None, clock)
    shown.update("answers j", 40_000, 50_000, 0, "")
    clock.now += 20
    shown.update("answers j", 40_200, 50_000, 0, "")
    assert lines == ["answers j: 40,200/50,000, 10/s, 16 min left"]


def screen(width: int) -> tuple[io.StringIO, Console]:
    text = io.StringIO()
    return text, Console(file=text, width=width, force_terminal=True, color_system=None, legacy_windows=False)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_bars_fit_their_terminal(clock: Clock, width: int) -> None:
    text, console = screen(width)
    shown = Progress(print, lambda: console, clock)
    job = "a-rather-long-name-of-a-job[model=gpt-4o-mini,date=2026-11-27]"
    for what, total in ((f"answers {job}", 60_000), (f"fetch {job}", 60_000_000)):
        for step in range(1, 10):
            clock.now += 1
            shown.update(what, total // 10 * step, total, 12, "completed, in_progress")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue().replace("\r", "\n")).splitlines()[-2:]
    assert all(len(line.rstrip()) <= width for line in last)
    if width > 40:
        assert "54,000/60,000, 12 failed, " in last[0]
        assert "54.0/60.0 MB" in last[1]
        assert all("27]" in line and "━" in line for line in last)
    assert all(("in_progress" in line) == (width == 200) for line in last)
    shown.clear()


def test_bars_are_drawn_some_times_a_second_however_much_news_there_is(clock: Clock) -> None:
    text, console = screen(80)
    shown = Progress(print, lambda: console, clock)
    for count in range(10_000):
        clock.now += 0.001
        shown.update("render j", count, 10_000, 0, "")
    assert 30 <= text.getvalue().count("render j") <= 45
    shown.update("render j", 10_000, 10_000, 0, "")
    assert "10.0/10.0 KB" in text.getvalue().splitlines()[-1]


def test_lines_stand_above_the_bars_and_finished_bars_go(clock: Clock) -> None:
    text, console = screen(80)
    said: list[str] = []
    shown = Progress(said.append, lambda: console, clock)
    shown.line("before")
    shown.update("render j", 5, 5, 0, "")
    clock.now += 1
    shown.line("j: submitted [bold]")
    assert "j: submitted [bold]\n" in text.getvalue()
    shown.update("upload j", 1, 5, 0, "")
    assert [work.verb for work in shown._works.values()] == ["upload"]
    shown.clear()
    shown.line("after")
    assert said == ["before", "after"]
