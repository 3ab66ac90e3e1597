"""A listener that is killed at any step, and started again, loses no event and does nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.listener.conftest import Scene, eventually

REPOSITORY = Path(__file__).parent.parent.parent
STORED = ("file event", 1, "before")
"""The event is not on disk yet."""


def send_until_death(scene: Scene, batch: str, point: tuple[str, int, str]) -> int | None:
    """Start a listener that dies at a point, send an event, and return the answer's status, if one came."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.listener.killed", str(scene.root), point[0], str(point[1]), point[2]],
        cwd=REPOSITORY,
        env={**os.environ, **scene.environ},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            status: int | None = scene.send(url, batch).status_code
        except httpx.TransportError:
            status = None
        assert process.wait(20) == -signal.SIGKILL
        return status
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


AT = [
    ("file event", 1, "after"),
    ("piece", 1, "after"),
    STORED,
    ("GET v1/batches", 1, "before"),
    ("GET v1/batches/ID/results", 1, "after"),
    ("piece", 1, "before"),
    ("file index.npy", 1, "before"),
    ("file .lock", 1, "before"),
    ("ledger create_intended", 1, "after"),
    ("POST v1/batches", 1, "after"),
    ("ledger created", 1, "after"),
    ("file event", 2, "before"),
    ("file event", 2, "after"),
]


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(one, id=" ".join(map(str, one)), marks=[pytest.mark.slow] if number else [])
        for number, one in enumerate(AT)
    ],
)
def test_killed_while_it_continues_a_job(scene: Scene, point: tuple[str, int, str]) -> None:
    """Two shards, one after the other: the first batch's event downloads it and submits the second."""
    scene.spec("job", "shards: {max_requests: 2}", "max_in_flight: {shards: 1}")
    scene.apply(waiting=False)
    eventually(lambda: [one["status"] for one in scene.remote()] == ["completed"])
    first = scene.remote()[0]["id"]
    status = send_until_death(scene, first, point)
    assert status is None or point != STORED
    assert scene.events_in("waiting") + scene.events_in("done") == (0 if point == STORED else 1)
    with scene.listening() as url:
        if point == STORED:
            assert scene.send(url, first).status_code == 202  # no answer came, so its sender repeats it
        eventually(lambda: [one["status"] for one in scene.remote()] == ["completed", "completed"])
        second = scene.remote()[0]["id"]
        assert scene.send(url, second, number="2").status_code == 202
        eventually((scene.root / "out/job.jsonl").exists)
        eventually(lambda: scene.events_in("done") == 2)
    assert len(scene.output()) == 3
    assert len(scene.remote()) == 2
    assert not scene.plan().changes


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_writes_the_output(scene: Scene, when: str) -> None:
    scene.apply(waiting=False)
    eventually(lambda: [one["status"] for one in scene.remote()] == ["completed"])
    send_until_death(scene, scene.remote()[0]["id"], ("file .jsonl", 1, when))
    assert (scene.root / "out/job.jsonl").exists() is (when == "after")
    with scene.listening():
        eventually(lambda: scene.events_in("done") == 1)
    assert len(scene.output()) == 3
    assert len(scene.remote()) == 1
    assert not scene.plan().changes
