"""`--due` day by day: what is started, what waits for its input, and what the exit code says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli_runner import run_cli
from tests.conftest import ROWS, SPEC

Write = Callable[..., Path]
NIGHTLY = (
    SPEC.replace("name: hello", "name: nightly\nprovider: local")
    .replace("data/rows.jsonl", '"data/{{ vars.date }}.jsonl"')
    .replace("out/hello.jsonl", '"out/{{ vars.date }}.jsonl"')
    + "partition: {date: {every: day, start: 2026-11-01}}\n"
)
PLAIN = SPEC.replace("name: hello", "name: hello\nprovider: local")


def batchspec(root: Path, *arguments: str, expect: int = 0) -> str:
    done = run_cli(arguments, cwd=root, env=dict(os.environ))
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def now(day: int) -> tuple[str, str]:
    return "--now", f"2026-11-{day:02}T03:00:00Z"


@pytest.mark.slow
def test_days_run_as_their_input_comes(project: Write) -> None:
    root = project({"specs/nightly.yaml": NIGHTLY, "specs/hello.yaml": PLAIN, "data/2026-11-01.jsonl": ROWS})
    told = batchspec(root, "apply", "--due", "--yes", *now(3))
    assert "nightly[date=2026-11-01]: succeeded" in told
    assert "hello: succeeded" in told
    waits = (
        "nightly[date=2026-11-02]: waiting for input: specs/nightly.yaml:6:15: there is no input file data/2026-11-02"
    )
    assert waits in told
    assert not (root / "out/2026-11-02.jsonl").exists()
    assert "2026-11-02" not in (root / "specs/nightly.lock").read_text()
    # The late day does not hold back the next one, and --strict reports it.
    (root / "data/2026-11-03.jsonl").write_text(ROWS)
    (root / "data/2026-11-02.jsonl").write_text("")
    told = batchspec(root, "apply", "--due", "--yes", "--limit", "1", "--strict", *now(4), expect=1)
    assert "nightly[date=2026-11-03]: succeeded" in told
    assert "nightly[date=2026-11-02]: waiting for input: specs/nightly.yaml:6:1: the input has no rows" in told
    lines = [json.loads(line) for line in batchspec(root, "plan", "--due", "--json", *now(4)).splitlines()]
    assert [line["job"] for line in lines if line["type"] == "waiting"] == ["nightly[date=2026-11-02]"]
    # Late rows come.
    (root / "data/2026-11-02.jsonl").write_text(ROWS)
    assert "nightly[date=2026-11-02]: succeeded" in batchspec(root, "apply", "--due", "--yes", *now(4))
    assert "Nothing to do" in batchspec(root, "apply", "--due", "--yes", *now(4))
    assert "3 jobs done" in batchspec(root, "status", "--select", "nightly[date=2026-11-0?]")


def test_the_limit_and_a_saved_plan(project: Write) -> None:
    days = {f"data/2026-11-{day:02}.jsonl": ROWS for day in range(1, 5)}
    root = project({"specs/hello.yaml": NIGHTLY, **days})
    told = batchspec(root, "plan", "--due", "--limit", "2", "--out", "plan.json", *now(5))
    assert "nightly: 2 more due periods (2026-11-03 to 2026-11-04); apply again, or raise `--limit`" in told
    assert f"batchspec apply plan.json --now {now(5)[1]}" in told
    told = batchspec(root, "apply", "plan.json", *now(5))
    assert told.count(": succeeded") == 2
    assert "nightly: 2 partitions are due; `apply --due` starts them" in batchspec(root, "plan", *now(5))


def test_a_time_needs_its_offset(project: Write) -> None:
    root = project({"specs/hello.yaml": NIGHTLY})
    for time in ("2026-11-02T06:00:00", "tomorrow"):
        assert f"--now {time} is no time with an offset" in batchspec(root, "plan", "--due", "--now", time, expect=1)
