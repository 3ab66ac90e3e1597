"""Commands that the tests run behave as processes of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli_runner import cli_path, run_cli


def test_exit_code_streams_folder_and_environment(project: Callable[..., Path]) -> None:
    root = project()
    done = run_cli(["plan", "--provider", "local", "--offline"], cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 to submit" in done.stdout
    done = run_cli(["plan"], cwd=root.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert "BS" in done.stderr
    asked = run_cli(["apply", "--provider", "local"], cwd=root)
    assert "not a terminal [BS608]" in asked.stderr
    troubled = {**os.environ, "BATCHSPEC_SERVICE_FAULTS": "nonsense"}
    assert run_cli(["apply", "--yes", "--provider", "local"], cwd=root, env=troubled).returncode == 1
    with pytest.raises(subprocess.CalledProcessError):
        run_cli(["nonsense"], cwd=root, check=True)


def test_a_command_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    serve = ["serve", "--data", "data", "--port", "0"]
    with pytest.raises(subprocess.TimeoutExpired):
        run_cli(serve, cwd=tmp_path, timeout=1)
    # Its folder is free again.
    with subprocess.Popen([cli_path(), *serve], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as again:
        assert again.stdout is not None
        assert again.stdout.readline().startswith("http://127.0.0.1:")
        again.terminate()
    assert again.returncode == 0
