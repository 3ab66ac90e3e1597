"""The process is killed between an effect and its record; the next run pays nothing twice and loses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Kills the process with SIGKILL before or after a named step of the executor, then lets the next run go on.
KILLER = """\
import os, signal, sys
from importlib import import_module
module, name, when = sys.argv[1:4]
owner = import_module(module.split(":")[0])
if ":" in module:
    owner = getattr(owner, module.split(":")[1])
real = getattr(owner, name)
def killing(*args, **kwargs):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, killing)
from runner.cli.main import run
sys.exit(run(["apply", "--yes", "--provider", "local"]))
"""

STEPS = [
    ("runner.store.ledger:Ledger", "upload_intended"),
    ("runner.store.ledger:Ledger", "uploaded"),
    ("runner.store.ledger:Ledger", "create_intended"),
    ("runner.providers.local:Local", "create_file"),
    ("runner.providers.local:Local", "upload"),
    ("runner.providers.local:Local", "create_batch"),
    ("runner.store.ledger:Ledger", "created"),
    ("runner.executor.context:Context", "save_lockfile"),
    ("runner.executor.run", "fetch"),
    ("runner.executor.run", "write_output"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
def test_killed_and_run_again(project: Callable[..., Path], module: str, name: str, when: str) -> None:
    root = project()
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, module, name, when], cwd=root, capture_output=True, timeout=60, check=False
    )
    assert killed.returncode == -9, killed.stderr
    again = subprocess.run(
        [sys.executable, "-m", "runner", "apply", "--yes", "--provider", "local"],
        cwd=root, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    home = root / ".batchspec/realms/local"
    lines = [json.loads(line) for line in (home / "specs/hello.lock").read_text().splitlines()]
    assert len([line for line in lines if "batch" in line]) == 1
    jobs = [path for path in (root / ".batchspec/service/echo/jobs").iterdir() if path.is_dir()]
    assert len(jobs) == 1, "the service has exactly one batch"
    texts = [json.loads(line)["text"] for line in (home / "out/hello.jsonl").read_text().splitlines()]
    assert texts == ["Say one.", "Say two.", "Say three."]
