"""Kills an apply at chosen steps and lets the next one go on: `python -m tests.executor.crash --help`.

What is killed is a fork of this process, so that it needs no time to start. Cases are tried beside each other, as many
as there are cores; what they are in stands in `scenes`, what a step is in `kill`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli_runner import cli_path
from tests.executor.beside import Trial, try_all
from tests.executor.forked_service import TOKEN
from tests.executor.kill import Point
from tests.executor.scenes import LOSSES, SCENES, Scene, check, in_fork, lockfiles, lose, outputs, stage
from tests.warm import warm

POLLS = {"GET v1/batches": 4, "GET v1/batches/ID": 4}
"""Steps that come as often as time passes; the first ones are enough."""
MOST = 8
"""So many steps of one kind are tried."""
SUBSETS = [s for size in range(1, len(LOSSES) + 1) for s in itertools.combinations(LOSSES, size)]


@contextmanager
def service(data: Path) -> Iterator[str]:
    """The embedded service as a command of its own; its URL."""
    process = subprocess.Popen(
        [cli_path(), "serve", "--port", "0", "--data", str(data), "--token", TOKEN,
         "--rate-limit", "off"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


@dataclass(frozen=True)
class Case:
    """Kills one after another, with what is thrown away after each."""

    scene: Scene
    kills: tuple[Point, ...]
    losses: tuple[str, ...] = ()

    def __str__(self) -> str:
        kills = ", then ".join(map(str, self.kills))
        return f"{self.scene.name}: {kills}; lost: {', '.join(self.losses) or 'nothing'}"

    def trial(self, want: Mapping[str, bytes]) -> Trial:
        return Trial(str(self), lambda folder: self.wrong(folder, want))

    def wrong(self, folder: Path, want: Mapping[str, bytes]) -> str:
        """Try it; what is wrong then, or empty."""
        scene = self.scene
        with stage(scene, folder) as (root, url):
            for point in self.kills:
                before = lockfiles(root)
                code = in_fork(root, scene.does, scene.options, point)
                if code not in (-signal.SIGKILL, 0):
                    return f"the killed run ended with {code}"
                lose(root, self.losses, before)
            code = in_fork(root, scene.does, scene.options)
            if code:
                return f"the next run ended with {code}"
            return check(scene, root, url, want, len(self.kills))


def rehearse(scene: Scene, folder: Path) -> tuple[dict[str, bytes], list[Point]]:
    """An undisturbed run: the outputs that there must be, and every point of it."""
    with stage(scene, folder) as (root, url):
        code = in_fork(root, scene.does, scene.options, counts=folder / "counts")
        if code:
            raise RuntimeError(f"{scene.name}: an undisturbed run ended with {code}")
        want, counts = outputs(scene, root), json.loads((folder / "counts").read_text())
        wrong = check(scene, root, url, want)
        if wrong:
            raise RuntimeError(f"{scene.name}: after an undisturbed run {wrong}")
    return want, [
        Point(kind, number, when)
        for kind in sorted(counts)
        for number in range(1, min(counts[kind], POLLS.get(kind, MOST)) + 1)
        for when in ("before", "after")
    ]


def plan_cases(options: argparse.Namespace, points: Mapping[str, Sequence[Point]]) -> list[Case]:
    """The cases that were asked for, in an order that a seed fixes."""
    chance = random.Random(options.seed)
    scenes = [SCENES[name] for name in points]
    if options.random:
        cases = []
        for _ in range(options.random):
            scene = chance.choice(scenes)
            kills = chance.sample(list(points[scene.name]), chance.choice([2, 3]))
            cases.append(Case(scene, tuple(kills), chance.choice([(), *SUBSETS]) if scene.losses else ()))
        return cases
    whens = {"before", "after"} if options.when == "both" else {options.when}
    alone = [Case(scene, (point,)) for scene in scenes for point in points[scene.name] if point.when in whens]
    cases = alone
    if options.losses == "all":
        cases = [Case(case.scene, case.kills, subset) for case in alone if case.scene.losses for subset in SUBSETS]
    return chance.sample(cases, options.sample) if options.sample else cases


def main() -> int:
    """Try points; print what was tried and each that went wrong. Exit code 1 where one did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", action="append", choices=list(SCENES), help="only this one; repeatable")
    parser.add_argument("--when", choices=["both", "before", "after"], default="both", help="on which side of a step")
    parser.add_argument("--losses", choices=["none", "all"], default="none", help="what is lost in between")
    parser.add_argument("--sample", type=int, default=0, help="only so many of the cases, picked by the seed")
    parser.add_argument("--random", type=int, default=0, help="rounds of two or three kills with random losses")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th case, from the I-th")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="cases beside each other; one for each core")
    options = parser.parse_args()
    warm()  # once, here, and not in every fork
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batchspec-crash-") as name:
        folder = Path(name)
        rehearsed = {scene: rehearse(SCENES[scene], folder / scene) for scene in options.scene or SCENES}
    points = {scene: found for scene, (_, found) in rehearsed.items()}
    index, count = map(int, options.part.split("/"))
    cases = plan_cases(options, points)[index::count]
    bad = try_all([case.trial(rehearsed[case.scene.name][0]) for case in cases], options.workers)
    total = sum(map(len, points.values()))
    took = time.monotonic() - started
    print(f"{len(cases)} cases of {total} points in {len(points)} scenes, {bad} wrong, {took:.0f} s")
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
