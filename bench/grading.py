"""Grading an output, against a loop that parses the input and the output and searches each answer once."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import time
from pathlib import Path

import orjson
import re2

PATTERN = "positive|negative|mixed"
EVALUATE = f"""\
evaluate:
  graders:
    label: {{type: regex, pattern: {PATTERN}}}
"""


def bare(root: Path) -> float:
    """Return the processor seconds of the bare loop."""
    search = re2.compile(PATTERN).search
    loads = orjson.loads
    started = time.process_time()
    right = 0
    with (root / "data/reviews.jsonl").open("rb") as rows, (root / "out/reviews.jsonl").open("rb") as answers:
        for row, answer in zip(rows, answers, strict=True):
            loads(row)
            right += search(loads(answer)["text"]) is not None
    return time.process_time() - started


def graded(root: Path) -> tuple[float, float, float]:
    """Return the processor seconds of grading alone and with metrics and digests, and the peak memory in 10^6 bytes."""
    from runner.api import load, open_project  # noqa: PLC0415  the bare loop needs nothing of it
    from runner.evaluation.scoring import score_output  # noqa: PLC0415

    gc.set_threshold(50_000, 20, 20)  # as the command does
    project = load(root=root)
    with open_project(project, reads=True) as opened:
        prepared, errors = opened.prepare(project.jobs)
        if errors:
            raise SystemExit(str(errors))
        started = time.process_time()
        (one,) = prepared
        score_output(one.desired, root / "out/reviews.jsonl", one.desired.spec.job.output)
        scored = time.process_time() - started
        started = time.process_time()
        found, errors = opened.evaluate_rendered(prepared)
        whole = time.process_time() - started
    if errors or not found:
        raise SystemExit(str(errors))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return scored, whole, memory


def measured(what: str, root: Path) -> list[float]:
    """Return what `bare` or `graded` measures, in a process of its own."""
    command = [sys.executable, "-m", "bench.grading", what, str(root)]
    repository = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True)
    return [float(number) for number in done.stdout.split()]


if __name__ == "__main__":
    place = Path(sys.argv[2])
    print(*(graded(place) if sys.argv[1] == "graded" else [bare(place)]))
