"""The three accidents that make other tools pay twice or lose answers, as they happen: two commands, two processes.

`batchspec serve` is the service, `batchspec apply` the client. What was paid for is read from the service's own files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli_runner import cli_path, run_cli
from tests.executor.story import ROWS, SHARD, TEXTS, Books, checkout

KEY = "a-key-of-these-tests"
SHARDS = ROWS // SHARD
BATCHSPEC = (sys.executable, "-m", "runner")


@contextmanager
def served(data: Path, fault: str) -> Iterator[str]:
    """`batchspec serve` with a fault; its URL."""
    process = subprocess.Popen(
        [cli_path(), "serve", "--data", str(data), "--token", KEY, "--fault", fault],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def start(root: Path) -> subprocess.Popen[str]:
    """`batchspec apply --yes`, and nobody beside it."""
    return subprocess.Popen(
        [*BATCHSPEC, "apply", "--yes"],
        cwd=root, env={**os.environ, "MODEL_ACCESS_KEY": KEY}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def apply(root: Path) -> None:
    done = run_cli(["apply", "--yes"], cwd=root, env={**os.environ, "MODEL_ACCESS_KEY": KEY})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def paid_once_and_kept_all(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Says after an accident that every row has its answer, that each was paid for once, in so many batches."""

    def check(batches: int) -> None:
        root, books = tmp_path / "checkout", Books.of(tmp_path / "data")
        rows = [json.loads(line) for line in (root / "out/told.jsonl").read_text().splitlines()]
        assert [row["text"] for row in rows] == TEXTS
        assert books.batches == batches
        assert books.twice == set()
        assert len(books.answers) == ROWS
        # The lockfile knows all of it: another apply has nothing to do, and changes no byte.
        lockfile = (root / "specs/told.lock").read_bytes()
        assert lockfile.count(b'"batch":') == batches
        apply(root)
        assert (root / "specs/told.lock").read_bytes() == lockfile
        assert Books.of(tmp_path / "data").batches == batches

    yield check


def test_the_service_loses_the_answer_to_a_create(
    tmp_path: Path, paid_once_and_kept_all: Callable[[int], None]
) -> None:
    with served(tmp_path / "data", "lost-create=@2") as url:
        apply(checkout(tmp_path / "checkout", url))
        paid_once_and_kept_all(SHARDS)


def test_the_client_is_killed_right_after_an_accepted_create(
    tmp_path: Path, paid_once_and_kept_all: Callable[[int], None]
) -> None:
    """The service has the job, its answer is still under way, and the client is no more."""
    with served(tmp_path / "data", "slow=100%:0.5") as url:
        root = checkout(tmp_path / "checkout", url)
        process = start(root)
        while not any((tmp_path / "data/jobs").glob("*/")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert not (root / "specs/told.lock").exists()
        apply(root)
        paid_once_and_kept_all(SHARDS)


def test_a_job_expires_when_it_is_half_done(tmp_path: Path, paid_once_and_kept_all: Callable[[int], None]) -> None:
    """What it answered is kept, and the rest is asked again in one more batch, by the same apply."""
    with served(tmp_path / "data", "expire-half=1") as url:
        apply(checkout(tmp_path / "checkout", url))
        paid_once_and_kept_all(SHARDS + 1)
