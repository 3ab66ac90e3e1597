"""A spec with an error hides no other in plan and apply."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli_runner import run_cli
from tests.conftest import SPEC

Write = Callable[..., Path]
GOOD = SPEC.replace("name: hello", "name: hello\nprovider: local")
BAD = (
    SPEC.replace("name: hello", "name: other\nprovider: local").replace("hello.jsonl", "other.jsonl") + "colour: red\n"
)


def batchspec(root: Path, *arguments: str, expect: int = 0) -> str:
    done = run_cli(arguments, cwd=root, env=dict(os.environ))
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def two(project: Write) -> Path:
    """A good spec, and one with an unknown key."""
    return project({"specs/hello.yaml": GOOD, "specs/other.yaml": BAD})


def test_apply_runs_the_other_jobs_and_exits_with_1(two: Path) -> None:
    told = batchspec(two, "apply", "--yes", expect=1)
    assert "hello: succeeded" in told
    assert "specs/other.yaml\n  ! specs/other.yaml:11:1: there is no key `colour` here" in told
    assert "specs/other.yaml: skipped, see its error above" in told
    lines = [json.loads(line) for line in batchspec(two, "plan", "--json", expect=1).splitlines()]
    assert [(line["job"], line["codes"]) for line in lines if line["type"] == "error"] == [
        ("specs/other.yaml", ["BS110"])
    ]


def test_a_plan_with_errors_is_saved_only_if_that_is_allowed(two: Path) -> None:
    assert "cannot save a plan that has errors" in batchspec(two, "plan", "--out", "plan.json", expect=1)
    assert not (two / "plan.json").exists()
    batchspec(two, "plan", "--out", "plan.json", "--allow-errors", expect=1)
    assert [job["address"] for job in json.loads((two / "plan.json").read_text())["jobs"]] == ["hello"]
    assert "hello: succeeded" in batchspec(two, "apply", "plan.json")


def test_what_may_be_in_the_broken_spec_is_not_unknown(two: Path) -> None:
    assert "there is no key `colour`" in batchspec(two, "plan", "--job", "other", expect=1)


def test_nothing_of_a_broken_spec_is_pruned(two: Path) -> None:
    (two / "specs/other.yaml").write_text(BAD.replace("colour: red\n", ""))
    batchspec(two, "apply", "--yes", "--no-wait", "--job", "other")
    (two / "specs/other.yaml").write_text(BAD)
    assert "no spec defines this job any more" not in batchspec(two, "plan", expect=1)
    assert "--prune needs all specs" in batchspec(two, "apply", "--yes", "--prune", expect=1)


def test_with_another_provider_or_alone_an_error_stops_all(two: Path) -> None:
    assert "hello" not in batchspec(two, "plan", "--provider", "local", expect=1)
    (two / "specs/hello.yaml").unlink()
    told = batchspec(two, "plan", expect=1)
    assert told.startswith("specs/other.yaml:11:1: there is no key `colour` here")
