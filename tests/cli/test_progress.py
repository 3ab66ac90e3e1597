"""Long work says how far it is, how fast, and how long the rest takes: a table on a terminal, else a line now and then."""

from __future__ import annotations

import io
import re
import signal

import pytest
from rich.console import Console

from runner.cli.terminal.live_region import LiveRegion
from runner.cli.terminal.progress import Progress
from tests.sampling import sampled


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
        pytest.param("write j", 80_000, "write j: 30,000/80,000, 2,000/s, 25 s left", id="rows"),
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
        shown.update("write j", done, 1_000, 0, "")
    assert lines == []


def test_what_was_done_before_counts_for_no_rate(clock: Clock) -> None:
    lines: list[str] = []
    shown = Progress(lines.append, None, clock)
    shown.update("answers j", 40_000, 50_000, 0, "")
    clock.now += 20
    shown.update("answers j", 40_200, 50_000, 0, "")
    assert lines == ["answers j: 40,200/50,000, 10/s, 16 min left"]


def screen(width: int, height: int = 24) -> tuple[io.StringIO, Console]:
    text = io.StringIO()
    return text, Console(
        file=text, width=width, height=height, force_terminal=True, color_system=None, legacy_windows=False
    )


def seen_of(text: io.StringIO) -> list[str]:
    """The lines of the newest picture."""
    return re.sub(r"\x1b\[[0-9;?]*m", "", re.split(r"\x1b\[\d+A\x1b\[J", text.getvalue())[-1]).splitlines()


@pytest.mark.parametrize("height", sampled([10, 24, 50], 2))
@pytest.mark.parametrize("width", [40, 80, 200])
def test_many_jobs_fit_any_screen_what_is_active_first(clock: Clock, width: int, height: int) -> None:
    text, console = screen(width, height)
    shown = Progress(print, lambda: console, clock)
    names = [f"job-{number:02}[model=gpt-4o-mini,date=2026-11-27]" for number in range(40)]
    shown.expect(dict.fromkeys(names, 60_000))
    for name in names[:20]:
        shown.ended(name, "succeeded")
    for step in range(2, 10):
        for name in names[30:33]:
            clock.now += 1
            shown.update(f"answers {name}", 6_000 * step, 60_000, 12, "in_progress")
    lines = seen_of(text)
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)
    for number, line in zip((30, 31, 32), lines[2:], strict=False):
        assert line.startswith("job-3" if width == 40 else f"job-{number}")
        assert "27]" in line, "the end of a name tells jobs of a matrix apart"
        assert "in_progress" in line
        assert "54,000/60,000" in line
        if width > 40:
            assert re.search(r" 12 +\d,\d{3}/s +\d s$", line.rstrip()), line
    told = " ".join(" ".join(lines).split())
    rows = sum(line.startswith("job-") for line in lines)
    assert rows == 40 or re.search(rf"… and {40 - rows} more: (20|1\d) done", told)
    assert "40 jobs: 20 done, 3 running, 17 waiting," in told
    assert "161,964 of 2,400,000 answered, 36 failed" in told
    shown.clear()


def test_the_sum_says_what_batches_have_cost_and_a_job_with_a_batch_runs(clock: Clock) -> None:
    text, console = screen(80)
    shown = Progress(print, lambda: console, clock)
    shown.expect({"a": 3, "b": 4})
    shown.update("upload b", 1, 1, 0, "")
    shown.submitted("b")
    shown.fetched("a", 1, 0.25)
    shown.fetched("a", 1, 0.5)
    shown.fetched("a", 0, None)
    clock.now += 1
    shown.ended("a", "failed")
    assert re.match(r"b +submitted +0/4$", seen_of(text)[2].rstrip())
    assert re.match(r"a +failed +2/3 +1 +\$0.75$", seen_of(text)[3].rstrip())
    assert seen_of(text)[-1] == "2 jobs: 1 failed, 1 running, 2 of 7 answered, 1 failed, $0.75 so far"
    shown.clear()


def test_another_size_of_the_window_leaves_nothing_behind(clock: Clock) -> None:
    """Terminals wrap the lines of a window that gets narrower, so that there is more to erase."""
    text, console = screen(80)
    shown = Progress(print, lambda: console, clock)
    shown.expect(dict.fromkeys("abc", 12_345_678))
    shown.update("answers a", 1, 12_345_678, 0, "in_progress")
    wide = [len(line) for line in seen_of(text)]
    console.width = 20
    signal.raise_signal(signal.SIGWINCH)
    erased = re.findall(r"\x1b\[(\d+)A\x1b\[J", text.getvalue())
    assert int(erased[-1]) == sum(-(-width // 20) for width in wide) > len(wide)
    assert all(len(line) <= 20 for line in seen_of(text))
    shown.clear()
    assert re.search(r"\x1b\[\d+A\x1b\[J$", text.getvalue()), "and nothing after it"
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL


def test_it_is_drawn_some_times_a_second_however_much_news_there_is(clock: Clock) -> None:
    text, console = screen(80)
    shown = Progress(print, lambda: console, clock)
    for count in range(10_000):
        clock.now += 0.001
        shown.update("render j", count, 10_000, 0, "")
    assert 30 <= text.getvalue().count("rendering") <= 45
    shown.update("render j", 10_000, 10_000, 0, "")
    assert "10.0/10.0 KB" in seen_of(text)[-1]


def test_lines_stand_above_the_table_and_what_is_finished_goes(clock: Clock) -> None:
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


class Struck(io.StringIO):
    """A terminal at which Ctrl-C comes just when something was written."""

    strikes = False

    def write(self, text: str) -> int:
        count = super().write(text)
        if self.strikes and text:
            raise KeyboardInterrupt
        return count


def test_a_picture_is_erased_also_where_it_was_interrupted_right_after_it_was_drawn() -> None:
    screen = Struck()
    pane = LiveRegion(Console(file=screen, width=40, height=10, force_terminal=True))
    screen.strikes = True
    with pytest.raises(KeyboardInterrupt):
        pane.show("one\ntwo\nthree")
    screen.strikes = False
    drawn = screen.getvalue()
    pane.clear()
    assert screen.getvalue() == f"{drawn}\r\x1b[3A\x1b[J"
    pane.clear()
    assert screen.getvalue().count("\x1b[J") == 1, "what is erased is not erased again"
