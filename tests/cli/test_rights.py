"""A project that may be read and not written: what only looks works, and what writes says that it is the rights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_recurring import LOCAL, batchspec
from tests.cli_runner import run_cli
from tests.rights import as_anybody

Write = Callable[..., Path]
RIGHTS = "ive the user who runs this read and write permission for it and its folder (see `ls -ld`)"


def anybody(root: Path, *arguments: str, expect: int = 0) -> str:
    done = run_cli(arguments, cwd=root, prepare=as_anybody)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def applied(project: Write) -> Path:
    root = project({"specs/hello.yaml": LOCAL})
    batchspec(root, "apply", "--yes")
    return root


@pytest.fixture
def locked(applied: Path) -> Iterator[Path]:
    """A project that was applied, of which nothing may be written."""
    paths = [applied, *applied.rglob("*")]
    modes = [(path, path.stat().st_mode & 0o777) for path in paths]
    for path, mode in modes:
        path.chmod(mode & 0o555)
    yield applied
    for path, mode in modes:
        path.chmod(mode)


def test_what_only_looks_needs_no_rights_to_write(locked: Path) -> None:
    assert "hello: verified" in anybody(locked, "verify")
    assert '"job": "hello"' in anybody(locked, "report", "--format", "json", "--out", "-")
    told = anybody(locked, "plan")
    assert "Nothing to do" in told
    assert "the local service can't be started" in told
    told = anybody(locked, "status")
    assert "done" in told
    assert "The service was not asked about hello: the local service can't be started" in told


def test_what_writes_says_that_it_is_the_rights(locked: Path) -> None:
    for command in (["apply", "--yes"], ["report"]):
        told = anybody(locked, *command, expect=1)
        assert "Permission denied [BS411]" in told
        assert RIGHTS in told or "fix the permissions" in told
        assert "continues from there" not in told


def test_a_lockfile_that_may_not_be_read(applied: Path) -> None:
    (applied / "specs/hello.lock").chmod(0)
    told = anybody(applied, "plan", expect=1)
    assert "specs/hello.lock: Permission denied [BS411]" in told
    assert RIGHTS in told


def test_a_ledger_that_may_not_be_written_is_not_to_be_removed(applied: Path) -> None:
    folder = applied / ".batchspec"
    folder.chmod(0o555)
    told = anybody(applied, "apply", "--yes", expect=1)
    folder.chmod(0o755)
    assert "ledger.db: " in told
    assert "[BS411]" in told
    assert "ree some disk space or fix the permissions" in told
    assert "can be removed" not in told
