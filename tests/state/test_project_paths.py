"""Scratch folders: they go with their command, also where that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runner.state.ledger import Ledger
from runner.state.locks import is_held, write_lock
from runner.state.project_paths import ProjectPaths

CODE = """\
import sys, time
from pathlib import Path
from runner.state.project_paths import ProjectPaths
with ProjectPaths.for_provider(Path(sys.argv[1]), ".batchspec", None).scratch() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


def aged(folder: Path) -> Path:
    """A folder that was last written to an hour ago."""
    then = folder.stat().st_mtime - 3600
    os.utime(folder, (then, then))
    return folder


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    places = ProjectPaths.for_provider(tmp_path, ".batchspec", None)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stdout is not None
        left = aged(Path(process.stdout.readline().strip()))
        (left / "spool").write_bytes(b"lines")
        aged(left)
        with places.scratch() as mine:
            assert left.exists(), "its process lives"
            assert mine.exists()
        assert not mine.exists()
    finally:
        process.kill()
        process.communicate()
    with places.scratch():
        assert not left.exists()


def test_whether_a_lock_is_held(tmp_path: Path) -> None:
    lock = tmp_path / "locks/one"
    assert not is_held(lock)
    with write_lock(lock):
        assert is_held(lock)
    assert not is_held(lock)


def test_the_store_is_its_owners_alone(tmp_path: Path) -> None:
    places = ProjectPaths.for_provider(tmp_path, ".batchspec", "local")
    with places.scratch():
        Ledger(places.ledger).close()
    assert places.base.stat().st_mode & 0o777 == 0o700
    assert places.ledger.stat().st_mode & 0o777 == 0o600


def test_a_store_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / ".batchspec").mkdir(mode=0o750)
    with ProjectPaths.for_provider(tmp_path, ".batchspec", None).scratch():
        pass
    assert (tmp_path / ".batchspec").stat().st_mode & 0o777 == 0o750
