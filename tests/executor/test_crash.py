"""The process is killed at a step; the next run pays nothing twice and loses nothing. `make crash` tries all of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PARTS = 6


def crash(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.executor.crash", *arguments],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_every_step_once(part: int) -> None:
    """Before and after every intent, request, answer and file: one batch a shard, and the same output."""
    assert " 0 wrong" in crash("--part", f"{part}/{PARTS}")


def test_killed_with_ledger_store_or_lockfile_lost() -> None:
    """A seeded sample of the same, with what the machine knew thrown away in between, each alone and together."""
    assert "16 cases" in crash("--losses", "sample", "--sample", "16", "--seed", "2")


def test_killed_again_and_again() -> None:
    """Two or three kills one after another, with random losses."""
    assert "6 cases" in crash("--random", "6", "--seed", "3")
