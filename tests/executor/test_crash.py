"""The process is killed at a step; the next run pays nothing twice and loses nothing. `make crash` tries all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.executor.scenes import SCENES

PARTS = 4


def crash(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.executor.crash", "--workers", "1", *arguments],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "--scene rounds --scene partition --sample 4",
        "--scene shards --losses all --sample 4",
        "--scene shards --random 2",
    ],
)
def test_killed_at_a_sample_of_steps(arguments: str) -> None:
    """A seeded sample of the tests below, which `make test-slow` runs."""
    assert " 0 wrong" in crash("--seed", "1", *arguments.split())


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_step_once(part: int) -> None:
    """Before and after every intent, request, answer, piece and file: one batch a shard, and the same output."""
    assert " 0 wrong" in crash("--scene", "shards", "--part", f"{part}/{PARTS}")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
@pytest.mark.parametrize("scene", [name for name in SCENES if name != "shards"])
def test_killed_at_every_step_of_longer_stories(scene: str, part: int) -> None:
    """In a second round, a canary, a rename, a prune, an import, and where the output alone has answers.

    After each step; the moment before the next one is much the same, and `make crash` tries it too.
    """
    assert " 0 wrong" in crash("--scene", scene, "--when", "after", "--part", f"{part}/2")


@pytest.mark.slow
def test_killed_with_ledger_store_or_lockfile_lost() -> None:
    """A seeded sample of the same, with what the machine knew thrown away in between, each alone and together."""
    assert "24 cases" in crash("--losses", "all", "--sample", "24", "--seed", "2")


@pytest.mark.slow
def test_killed_again_and_again() -> None:
    """Two or three kills one after another, with random losses."""
    assert "10 cases" in crash("--random", "10", "--seed", "3")
