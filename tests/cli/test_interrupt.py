"""Ctrl-C in every phase of an apply: out within seconds, nothing paid twice afterwards, no process left behind."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli_runner import run_cli
from tests.providers.stub import KEY, Stub
from tests.providers.stub_steps import Hang, Reply
from tests.sampling import sampled

LONG = 20.0
"""Seconds after which a process has not listened: what it hangs in takes longer."""
SPEC = """\
version: 1
name: hello
provider: stub
model: gpt-4o-mini
input: {path: data/rows.jsonl, id: id}
prompt: {user: "Say {{ text }}."}
output: {path: out/hello.jsonl}
"""
UNAVAILABLE = Reply(503, {"id": "unavailable", "message": "back soon"})


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running


@pytest.fixture
def root(stub: Stub, project: Callable[..., Path]) -> Path:
    settings = {"version": 1, "project": "tests", "providers": {"stub": {"kind": "digitalocean", "base_url": stub.url}}}
    return project({"batchspec.yaml": json.dumps(settings), "specs/hello.yaml": SPEC})


def start(root: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "runner", "apply", "--yes", *more],
        cwd=root,
        env={**os.environ, "MODEL_ACCESS_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def interrupted(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C once; what was said."""
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "To continue, run: batchspec apply --yes" in said
    return said


def goes_on(root: Path, stub: Stub) -> None:
    """The same command, undisturbed: one batch, and its answers."""
    done = run_cli(["apply", "--yes"], cwd=root, env={**os.environ, "MODEL_ACCESS_KEY": KEY})
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(stub.jobs) == 1
    assert len((root / "out/hello.jsonl").read_text().splitlines()) == 3


def hours_pass(root: Path) -> None:
    """Creates without an answer become so old that the list is believed; a service without keys is given minutes."""
    with closing(sqlite3.connect(root / ".batchspec/ledger.db")) as ledger, ledger:
        ledger.execute("update creates set at = ?", ((datetime.now(UTC) - timedelta(hours=2)).isoformat(),))


@pytest.mark.parametrize(
    ("method", "path", "step"),
    sampled(
        [
            pytest.param("GET", "/v1/batches", Hang(), id="planning"),
            pytest.param("POST", "/v1/batches/files", Hang(), id="asking for a place"),
            pytest.param("PUT", "/upload/.*", Hang(), id="uploading"),
            pytest.param("POST", "/v1/batches", Hang(), id="creating"),
            pytest.param("GET", "/v1/batches/.*/results", Hang(), id="asking for results"),
            pytest.param("GET", "/download/.*", Hang(), id="downloading"),
        ],
        1,
    ),
)
def test_in_the_middle_of_an_exchange(stub: Stub, root: Path, method: str, path: str, step: Hang) -> None:
    stub.on(method, path, step)
    process = start(root)
    until(process, lambda: bool(stub.calls(method, path)))
    interrupted(process)
    if (method, path) == ("POST", "/v1/batches"):
        hours_pass(root)
    goes_on(root, stub)


@pytest.mark.slow
def test_while_a_create_is_tried_again(stub: Stub, root: Path) -> None:
    stub.on("POST", "/v1/batches", *[UNAVAILABLE] * 1000)
    process = start(root)
    until(process, lambda: bool(stub.calls("POST", "/v1/batches")))
    interrupted(process)
    stub.on("POST", "/v1/batches")
    assert not stub.jobs


@pytest.mark.slow
def test_while_it_waits(stub: Stub, root: Path) -> None:
    stub.steps = ["in_progress"] * 10_000
    process = start(root)
    until(process, lambda: len(stub.jobs) == 1 and len(stub.calls("GET", "/v1/batches")) > 3)
    said = interrupted(process)
    assert "hello: batch batch-1 is still running at the service" in said
    stub.jobs[0].steps = ["completed"]
    goes_on(root, stub)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="children are looked up in /proc")
def test_while_workers_render(stub: Stub, root: Path) -> None:
    rows = root / "data/rows.jsonl"
    few = rows.read_bytes()
    rows.write_bytes(b"".join(b'{"id": %d, "text": "%s"}\n' % (n, b"x" * 200) for n in range(200_000)))
    process = start(root, "--jobs", "2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    rendered = (root / ".batchspec/scratch").rglob
    until(process, lambda: sum(lines.stat().st_size > 0 for lines in rendered("lines-*")) == 2)
    workers = [Path("/proc", number) for number in children.read_text().split()]
    interrupted(process)
    assert len(workers) == 2
    assert not any(worker.exists() for worker in workers)
    assert not stub.calls("POST")
    rows.write_bytes(few)
    goes_on(root, stub)


DEEP = """\
import hashlib, sys
from runner.cli import signals
signals.install()
while True:
    try:
        print("deep", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
    except KeyboardInterrupt:
        pass  # the signal came before the call
"""


@pytest.mark.parametrize("times", sampled([1, 2], 1))
def test_in_the_middle_of_a_call_that_notices_no_signal(times: int) -> None:
    """As looking up a name is: the first signal takes some seconds there, the second none."""
    process = subprocess.Popen(
        [sys.executable, "-c", DEEP, "apply", "--yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "deep\n"
    if times == 2:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # two at once are one to the system
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert ("To continue, run: batchspec apply --yes" in said) is (times == 1)
