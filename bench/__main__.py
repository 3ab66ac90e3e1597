"""The table of what is measured: each number a ratio to a plain baseline of the same run, medians over rounds.

    python -m bench [--rows 1000000] [--rounds 3] [--large] [--only NAME]

Baseline and measured thing take turns, so that a busy machine meets both. A goal that is not reached is marked; nothing
fails, because a ratio on a busy machine is no verdict. `--large` measures memory and rate at five times the rows.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from bench import grading, service, traffic
from bench.drawing import share
from bench.history import history
from bench.results import SHAPES, write_results
from bench.scene import answer, make
from bench.watch import Ran, run
from bench.year import make_year
from runner.base.humanize import counted

PYTHON = sys.executable
BATCHSPEC = [PYTHON, "-m", "runner"]
STORE = ".batchspec"


class Bench:
    """One run of the table, in a folder that is removed at its end."""

    def __init__(self, folder: Path, rows: int, rounds: int) -> None:
        self._folder = folder
        self._rows = rows
        self._rounds = rounds
        self.cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._scenes: dict[int, Path] = {}

    def scene(self, rows: int) -> Path:
        """Return the project with that many rows; make it once."""
        if rows not in self._scenes:
            self._scenes[rows] = self._folder / f"of-{rows}"
            make(self._scenes[rows], rows)
        return self._scenes[rows]

    def plan(self) -> None:
        """Measure rendering against the bare loop, and its memory."""
        root = self.scene(self._rows)
        bare, full, one = [], [], []
        for _ in range(self._rounds):
            bare.append(self._bare(root))
            full.append(self._plan(root, self.cores))
            one.append(self._plan(root, 1))
        few = self._plan(self.scene(self._rows // 5), self.cores)
        floor, seconds, single = (statistics.median(ran.seconds for ran in runs) for runs in (bare, full, one))
        most = max(ran.megabytes for ran in full)
        say(f"plan, {self._rows:,} rows, --jobs {self.cores}", "rate of the bare loop", floor / seconds, 1.5)
        say(f"plan, {self._rows:,} rows, --jobs 1", "rate of the bare loop", floor / single, 0.6)
        note(f"bare loop {self._rows / floor:,.0f} rows/s ({floor:.2f} s), plan {self._rows / seconds:,.0f} rows/s")
        used = (statistics.median(ran.processor for ran in runs) for runs in (bare, full, one))
        note("processor time: bare loop {:.1f} s, plan {:.1f} s, plan --jobs 1 {:.1f} s".format(*used))
        say("its memory, 5 x the rows", "memory", most / few.megabytes, 1.1, least=False)
        note(f"{few.megabytes:.0f} MB at {self._rows // 5:,} rows, {most:.0f} MB at {self._rows:,} (goal 300 MB)")

    def nothing(self) -> None:
        """Measure a plan in which nothing changed, against hashing the input."""
        root = self.scene(self._rows)
        self._clean(root)
        answer(root)
        ours, floor = [], []
        for _ in range(max(5, self._rounds)):
            ours.append(run([*BATCHSPEC, "plan", "--offline"], root))
            floor.append(run(["sha256sum", "data/reviews.jsonl"], root))
        mine, least = (statistics.median(ran.seconds for ran in runs) for runs in (ours, floor))
        say(f"plan, nothing changed, {self._rows:,} rows", "time of sha256sum", mine / least, 1.3, least=False)
        used = (statistics.median(ran.processor for ran in runs) for runs in (ours, floor))
        note(f"plan {mine:.2f} s, sha256sum {least:.2f} s; " + "processor time {:.2f} s and {:.2f} s".format(*used))

    def results(self) -> None:
        """Indexing results, against a loop that only parses them."""
        from runner.outputs.index import index  # noqa: PLC0415
        from runner.state.results import CustomIdMap  # noqa: PLC0415

        path = self._folder / "results.jsonl"

        def parse() -> None:
            with path.open("rb") as lines:
                for line in lines:
                    orjson.loads(line)

        def take() -> None:
            index((path, self._folder / "none"), CustomIdMap())

        for shape, line in SHAPES.items():
            write_results(path, line, self._rows)
            ratio, floor, ours = compared(parse, take, self._rounds)
            say(f"results in, {self._rows:,} lines of {shape} shape", "rate of a bare orjson loop", ratio, 0.5)
            note(f"bare loop {self._rows / floor:,.0f} lines/s, index {self._rows / ours:,.0f} lines/s")
            path.unlink()

    def start(self) -> None:
        """Measure start-up, over a Python that does nothing."""
        root = self.scene(1000)
        commands = {
            "pass": [PYTHON, "-c", "pass"],
            "--help": [*BATCHSPEC, "--help"],
            "validate of one spec": [*BATCHSPEC, "validate"],
        }
        ran: dict[str, list[Ran]] = {name: [run(command, root)] for name, command in commands.items()}
        for _ in range(11):
            for name, command in commands.items():
                ran[name].append(run(command, root))
        # The first run of each only wrote bytecode.
        seconds = {name: statistics.median(one.seconds for one in runs[1:]) for name, runs in ran.items()}
        used = {name: statistics.median(one.processor for one in runs[1:]) for name, runs in ran.items()}
        for name, goal in (("--help", 100), ("validate of one spec", 250)):
            say(name, "ms over `python -c pass`", (seconds[name] - seconds["pass"]) * 1000, goal, least=False)
            note(f"{(used[name] - used['pass']) * 1000:.0f} ms of processor time over it")

    def history(self) -> None:
        """Measure a long lockfile and ledger: read, reconciled, written."""
        found = [history(self._folder / f"history-{number}", 20_000) for number in range(self._rounds)]
        whole = statistics.median(sum(parts.values()) for parts in found)
        say("20,000 batches: read, reconciled, written", "seconds", whole, 2.0, least=False)
        middle = {name: statistics.median(parts[name] for parts in found) for name in found[0]}
        note(", ".join(f"{name} {seconds:.2f} s" for name, seconds in middle.items()))

    def traffic(self) -> None:
        """Transfers of 200 MB over loopback, against curl."""
        path = self._folder / "shard.jsonl"
        traffic.make(path, 200)
        with traffic.endpoint(self._folder) as url:
            for what, (curl, ours) in traffic.compare(url, path, max(5, self._rounds)).items():
                say(f"{what}, 200 MB", "time of curl", ours / curl, 1.2, least=False)
                note(f"curl {curl:.2f} s, ours {ours:.2f} s")

    def service(self) -> None:
        """Measure the embedded service, with the backend echo."""
        folder = self._folder / "service"
        folder.mkdir()
        seconds = statistics.median(service.alone(folder, self._rounds))
        say(f"service, {service.REQUESTS:,} requests", "s from create to completed", seconds, 10, least=False)

    def grading(self) -> None:
        """Grading an answered project, against a loop that parses both files and searches once."""
        root = self._folder / "graded"
        make(root, self._rows)
        answer(root)
        with (root / "specs/reviews.yaml").open("a", encoding="utf-8") as file:
            file.write(grading.EVALUATE)
        found = [(grading.measured("bare", root), grading.measured("graded", root)) for _ in range(self._rounds)]
        floor = statistics.median(bare[0] for bare, _ in found)
        scored, whole = (statistics.median(ours[part] for _, ours in found) for part in (0, 1))
        say(f"grading {self._rows:,} rows", "processor time of the bare loop", scored / floor, 1.5, least=False)
        note(f"bare loop {floor:.2f} s, grading {scored:.2f} s, with metrics and digests {whole:.2f} s")
        say("its memory", "MB", max(ours[2] for _, ours in found), 300, least=False)

    def drawing(self) -> None:
        """Measure the table of jobs, on a terminal."""
        for jobs in (1, 40):
            found = statistics.median(share(jobs, 10) for _ in range(self._rounds))
            say(f"drawing progress, {counted(jobs, 'job')}", "% of one core", found, 1.0, least=False)

    def year(self) -> None:
        """Measure commands that look back over a year, in processor time. Exponents are against a month."""
        made: dict[int, Path] = {}
        for days in (30, 365):
            made[days] = self._folder / f"year-{days}"
            make_year(made[days], days)
        start = statistics.median(run([*BATCHSPEC, "--help"], made[30]).processor for _ in range(3))
        commands = {
            "log nightly": (["log", "nightly", "--json", "-n", "10000"], 3.0),
            "status --offline": (["status", "--offline", "--json"], 1.5),
            "report --format json": (["report", "--format", "json", "-o", "-"], 3.0),
        }
        for name, (arguments, goal) in commands.items():
            ran = {
                days: [run([*BATCHSPEC, *arguments], root, memory=True) for _ in range(self._rounds)]
                for days, root in made.items()
            }
            used = {days: statistics.median(one.processor for one in runs) for days, runs in ran.items()}
            say(f"{name}, 365 days", "s of processor time", used[365], goal, least=False)
            exponent = math.log((used[365] - start) / (used[30] - start)) / math.log(365 / 30)
            memory = max(one.megabytes for one in ran[365])
            note(f"{used[30]:.2f} s at 30 days, exponent {exponent:.2f}; {memory:.0f} MB at 365 days")

    def large(self) -> None:
        """Measure the same plan at one and at five times the rows."""
        small, big = self._rows, 5 * self._rows
        few = self._plan(self.scene(small), self.cores)
        bare = self._bare(self.scene(big))
        many = self._plan(self.scene(big), self.cores)
        say(f"plan, {big:,} rows, --jobs {self.cores}", "rate of the bare loop", bare.seconds / many.seconds, 1.5)
        note(f"{many.seconds:.1f} s, {big / many.seconds:,.0f} rows/s; bare loop {bare.seconds:.1f} s")
        say(f"memory of {big:,} rows to {small:,}", "memory", many.megabytes / few.megabytes, 1.1, least=False)
        say("memory, all processes together", "MB", many.megabytes, 300, least=False)

    def _bare(self, root: Path) -> Ran:
        repository = Path(__file__).resolve().parent.parent
        folder = root / "bare"
        arguments = [str(root / "data/reviews.jsonl"), str(root / "templates/sentiment.j2"), str(folder)]
        ran = run([PYTHON, "-m", "bench.bare", *arguments], repository)
        shutil.rmtree(folder)
        return ran

    def _plan(self, root: Path, jobs: int) -> Ran:
        self._clean(root)
        return run([*BATCHSPEC, "plan", "--offline", "--jobs", str(jobs)], root, memory=True)

    def _clean(self, root: Path) -> None:
        """As after a fresh checkout, so that everything is rendered."""
        shutil.rmtree(root / STORE, ignore_errors=True)


def compared(floor: Callable[[], None], ours: Callable[[], None], rounds: int) -> tuple[float, float, float]:
    """(floor's time to ours, and both medians in seconds), taking turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for measured, found in zip((floor, ours), times, strict=True):
            started = time.perf_counter()
            measured()
            found.append(time.perf_counter() - started)
    medians = statistics.median(times[0]), statistics.median(times[1])
    return medians[0] / medians[1], *medians


def say(what: str, unit: str, value: float, goal: float, *, least: bool = True) -> None:
    """One line of the table. `least` where more is better."""
    reached = value >= goal if least else value <= goal
    sign = ">=" if least else "<="
    print(f"{'ok ' if reached else 'NOT'}  {what:<50} {value:>8.2f}  {sign} {goal:<6g} {unit}", flush=True)


def note(text: str) -> None:
    """Print what a ratio was made from."""
    print(f"       {text}", flush=True)


NAMES = ("start", "history", "traffic", "service", "plan", "nothing", "results", "grading", "drawing", "year")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", choices=NAMES, action="append")
    options = parser.parse_args()
    names = ("large",) if options.large else [name for name in NAMES if name in (options.only or NAMES)]
    with tempfile.TemporaryDirectory(prefix="batchspec-bench-") as folder:
        bench = Bench(Path(folder), options.rows, options.rounds)
        load = os.getloadavg()[0]
        print(f"{bench.cores} cores, load {load:.1f}, Python {sys.version.split()[0]}")
        for name in names:
            getattr(bench, name)()


if __name__ == "__main__":
    main()
