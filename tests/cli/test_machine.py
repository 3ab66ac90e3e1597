"""`--json` and saved plans: what they write fits the published schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runner.jobspec.spec_schema import schema_text
from runner.reconciler.plan.planfile import saved_schema
from runner.views.json_lines import schema_of
from tests.cli_runner import run_cli
from tests.conftest import REPOSITORY

SCHEMAS = {"plan": schema_of("plan"), "apply": schema_of("apply"), "saved-plan": saved_schema()}


def batchspec(root: Path, *arguments: str, expect: int = 0) -> list[dict[str, Any]]:
    done = run_cli([*arguments, "--provider", "local"], cwd=root)
    assert done.returncode == expect, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_in_the_repository_is_fresh(name: str) -> None:
    """`make schemas` writes it."""
    assert (REPOSITORY / f"schemas/{name}.schema.json").read_text() == schema_text(SCHEMAS[name])


def test_plan_and_apply_write_lines_that_fit_their_schemas(project: Callable[..., Path]) -> None:
    root = project()
    plan = batchspec(root, "plan", "--json", "--out", "plan.json")
    for line in plan:
        jsonschema.validate(line, SCHEMAS["plan"])
    assert [line["type"] for line in plan] == ["version", "job", "plan"]
    assert plan[1]["actions"][0]["reason"] == "first run"
    jsonschema.validate(json.loads((root / "plan.json").read_text()), SCHEMAS["saved-plan"])
    lines = batchspec(root, "apply", "plan.json", "--json")
    for line in lines:
        jsonschema.validate(line, SCHEMAS["apply"])
    assert lines[0]["type"] == "version"
    assert [line["event"] for line in lines if line["type"] == "event"] == [
        "batch.submitted", "batch.fetched", "output.written", "job.ended",
    ]  # fmt: skip
    assert lines[-2:][0]["end"] == "succeeded"
    assert 0 < lines[-2:][0]["cost"] < lines[-2:][0]["expected"]
    assert lines[-1] == {"type": "exit", "code": 0}


def test_a_job_that_cannot_be_planned_is_a_line_too(project: Callable[..., Path]) -> None:
    root = project({"data/rows.jsonl": '{"id": 1}\n'})
    lines = batchspec(root, "plan", "--json", expect=1)
    assert [line["type"] for line in lines] == ["version", "error", "plan"]
    assert "data/rows.jsonl:1" in lines[1]["message"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"batchspec_plan": "2.0"}, "has plan format 2.0", id="newer"),
        pytest.param({"keys": "k2"}, "was made with keys k2", id="keys"),
        pytest.param({"project": "other"}, "is a plan of project other", id="project"),
        pytest.param({"jobs": 3}, "is not a saved plan: jobs", id="no plan"),
    ],
)
def test_a_plan_file_that_is_not_this_projects_is_refused(
    project: Callable[..., Path], change: dict[str, object], message: str
) -> None:
    root = project()
    batchspec(root, "plan", "--json", "--out", "plan.json")
    plan = json.loads((root / "plan.json").read_text())
    (root / "plan.json").write_text(json.dumps({**plan, **change}))
    done = run_cli(["apply", "plan.json", "--provider", "local"], cwd=root)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (root / ".batchspec/service/echo/jobs").exists() or not list(
        (root / ".batchspec/service/echo/jobs").iterdir()
    )
