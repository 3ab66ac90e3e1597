"""What git tracks and the job did not write is not replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from runner.api import open_project
from runner.base.digest import sha256_file
from runner.jobspec.loader import load_project
from runner.planner.render import first_requests
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import ErrorsField, OutputLine
from tests.conftest import SPEC
from tests.untrusted.checkout import git

Write = Callable[..., Path]
MINE = '{"id": 1, "note": "mine"}\n'


def row(root: Path) -> str:
    """An output's row that was edited since, with a key of the job."""
    project = load_project(root, variables={}, provider=None, environ={})
    [(_, line)] = list(first_requests(project.jobs[0], root, 1))
    return orjson.dumps({"id": 1, "text": "x", "request": orjson.loads(line)["custom_id"]}).decode() + "\n"


def recorded(root: Path, *, job: str, output: str, errors: bool = False) -> None:
    """A lockfile that says that a job wrote the file at the output's path, under this path or another one."""
    digest = sha256_file(root / "out/hello.jsonl")
    apart = ErrorsField(path="out/e.jsonl", digest=digest, rows=1) if errors else None
    line = OutputLine(output=output, job=job, digest="0" * 64 if errors else digest, rows=1, batches=(), errors=apart)
    lockfile = Lockfile("tests").with_output(line)
    if job != "hello":
        lockfile = lockfile.with_moved("hello", job)
    (root / "specs/hello.lock").write_bytes(lockfile.text())


CASES = [
    pytest.param("out/hello.jsonl", lambda root: None, True, id="a person's"),
    pytest.param("out/Hello.jsonl", lambda root: None, False, id="not there, but in another case"),
    pytest.param("out/errors.jsonl", lambda root: None, True, id="in place of failed rows"),
    pytest.param("", lambda root: None, False, id="not in git"),
    pytest.param("out/hello.jsonl", lambda root: (root / "out/hello.jsonl").write_text(row(root)), False, id="a key"),
    pytest.param("out/hello.jsonl", lambda root: recorded(root, job="hello", output="old.jsonl"), False, id="moved"),
    pytest.param("out/hello.jsonl", lambda root: recorded(root, job="other", output="old.jsonl"), False, id="renamed"),
    pytest.param("out/hello.jsonl", lambda root: recorded(root, job="hello", output="old.jsonl", errors=True), False,
                 id="failed rows"),
]  # fmt: skip


@pytest.mark.parametrize(("tracked", "make", "refused"), CASES)
def test_a_job_replaces_what_it_wrote(
    tracked: str, make: Callable[[Path], object], refused: bool, project: Write
) -> None:
    spec = SPEC.replace("out/hello.jsonl}", "out/hello.jsonl, errors: out/errors.jsonl}")
    root = project({"specs/hello.yaml": spec, "out/hello.jsonl" if "Hello" not in tracked else "out/x": MINE})
    git(root, "init", "--quiet")
    if tracked:
        (root / tracked).write_text(MINE)
        git(root, "add", tracked)
        (root / "out/Hello.jsonl").unlink(missing_ok=True)
    make(root)
    loaded = load_project(root, variables={}, provider=None, environ={})
    with open_project(loaded) as opened:
        planned = opened.plan(loaded.jobs, offline=True).plan
    assert ("BS414" in str(planned.codes)) is refused, planned.errors
    assert bool(planned.errors) is refused, planned.errors


def test_files_of_another_provider_are_never_in_git(project: Write) -> None:
    root = project({"out/hello.jsonl": MINE})
    git(root, "init", "--quiet")
    git(root, "add", "out")
    loaded = load_project(root, variables={}, provider="local", environ={})
    with open_project(loaded) as opened:
        assert not opened.plan(loaded.jobs, offline=True).plan.errors
