"""Ctrl-C, SIGTERM and the lock: what a person sees, and that the next command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.state.locks import write_lock
from tests.cli_runner import cli_path, run_cli
from tests.sampling import sampled

HOME = ".batchspec/realms/local"
LOCK = "locks/specs--hello.lock"
PROCESS = (sys.executable, "-m", "runner")
"""A process of its own: how it ends is the point."""
STUCK = {"BATCHSPEC_SERVICE_FAULTS": "stuck-validating=1:4"}


APPLY = ["apply", "--yes", "--provider", "local"]


def start(root: Path, *command: str, **environ: str) -> subprocess.Popen[str]:
    """Start an apply, by default a fork of a process that has imported everything."""
    return subprocess.Popen(
        [*(command or [cli_path()]), *APPLY],
        cwd=root, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def again(root: Path) -> None:
    """Apply once more, undisturbed."""
    done = run_cli(APPLY, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


def until(process: subprocess.Popen[str], word: str) -> str:
    """Read stderr up to a line with `word`."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if word in line:
            return seen
    raise AssertionError(seen)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, error = process.communicate(timeout=60)
    return process.returncode, out + error


@pytest.mark.parametrize("number", sampled([signal.SIGINT, signal.SIGTERM], 1))
def test_interrupted_once_everything_is_on_disk_and_the_way_on_is_shown(
    project: Callable[..., Path], number: signal.Signals
) -> None:
    root = project()
    process = start(root, *PROCESS, **STUCK)
    until(process, "submitted batch")
    process.send_signal(number)
    code, said = finish(process)
    assert code == 130, said
    lines = [json.loads(line) for line in (root / HOME / "specs/hello.lock").read_text().splitlines()]
    [batch] = [line for line in lines if "batch" in line]
    assert batch["state"] == "submitted"
    assert f"hello: batch {batch['batch']} continues whenever the embedded service runs" in said
    assert "To continue, run: batchspec apply --yes --provider local" in said
    again(root)
    assert len((root / HOME / "out/hello.jsonl").read_text().splitlines()) == 3
    assert len(list((root / ".batchspec/service/echo/jobs").iterdir())) == 1


@pytest.mark.slow
def test_interrupted_twice_it_is_out_at_once_and_recoverable(project: Callable[..., Path]) -> None:
    root = project()
    process = start(root, *PROCESS, **STUCK)
    until(process, "submitted batch")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    code, said = finish(process)
    assert code == 130, said
    assert "Traceback" not in said
    again(root)
    assert len(list((root / ".batchspec/service/echo/jobs").iterdir())) == 1


def test_the_second_comer_is_told_who_writes_and_waits(project: Callable[..., Path]) -> None:
    root = project()
    lock = root / HOME / LOCK
    with write_lock(lock):
        process = start(root)
        said = until(process, "waiting for")
        assert f"waiting for process {os.getpid()} on " in said
        assert " since 20" in said
        assert not (root / HOME / "out/hello.jsonl").exists()
    code, said = finish(process)
    assert code == 0, said


def test_a_lock_dies_with_its_holder(project: Callable[..., Path]) -> None:
    root = project()
    lock = root / HOME / LOCK
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom runner.state.locks import write_lock\n"
        "with write_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    again(root)


@pytest.mark.slow
def test_waiting_holds_no_lock(project: Callable[..., Path]) -> None:
    """While one apply waits for the service, another command may write."""
    root = project()
    process = start(root, **STUCK)
    until(process, "submitted batch")
    # The lock is free within the wait; a timer ends this test if it is not.
    watchdog = threading.Timer(30, process.kill)
    watchdog.start()
    with write_lock(root / HOME / LOCK):
        assert process.poll() is None
    watchdog.cancel()
    code, said = finish(process)
    assert code == 0, said


def test_another_jobs_transfers_are_not_waited_for(project: Callable[..., Path]) -> None:
    """Who uploads for one spec file's jobs holds up nobody else's, and what is held comes last."""
    spec = (project() / "specs/hello.yaml").read_text().replace("hello", "other")
    root = project({"specs/other.yaml": spec})
    with write_lock(root / HOME / LOCK):
        process = start(root)
        until(process, "waiting for")
        assert (root / HOME / "specs/other.lock").exists(), "the other job's batch is submitted meanwhile"
    code, said = finish(process)
    assert code == 0, said
