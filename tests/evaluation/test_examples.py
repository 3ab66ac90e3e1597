"""The evaluations in examples/: their data and graders agree, and they run from plan to eval."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.api import load
from runner.evaluation.answers import read_answer
from runner.evaluation.scoring import compiled_graders
from runner.jobspec.loader import JobSpec
from tests.cli_runner import run_cli
from tests.conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
Row = dict[str, Any]

RIGHT: dict[str, Callable[[Row], str]] = {
    "choice": lambda row: f"The answer is {row['answer']}.",
    "numbers": lambda row: f"It is {row['answer']}",
    "sentences": lambda row: row["label"].capitalize() + ".",
    "orders": lambda row: json.dumps(row["expected"]),
}
"""A right answer to a row, by job name."""


def rows_of(spec: JobSpec) -> list[Row]:
    path = EXAMPLES / spec.job.input.source
    if path.suffix == ".csv":
        return list(csv.DictReader(path.read_text().splitlines()))
    return [json.loads(line) for line in path.read_text().splitlines()]


SPECS = {spec.address: spec for spec in load(root=EXAMPLES).jobs}


@pytest.mark.parametrize("address", SPECS)
def test_right_answers_score_1_and_those_of_another_row_do_not(address: str) -> None:
    spec = SPECS[address]
    rows, right = rows_of(spec), RIGHT[spec.job.name]
    assert 50 <= len(rows) <= 300
    for name, grading in compiled_graders(spec, EXAMPLES).items():
        scores = [grading(read_answer({"text": right(row)}), row) for row in rows]
        assert [row["id"] for row, grade in zip(rows, scores, strict=True) if grade.score != 1] == []
        others = [
            grading(read_answer({"text": right(other)}), row).score
            for row, other in zip(rows, rows[1:] + rows[:1], strict=True)
        ]
        assert name == "short" or sum(others) < 0.75 * len(rows)


@pytest.mark.slow
def test_they_run_from_plan_to_eval(tmp_path: Path) -> None:
    root = tmp_path / "examples"
    shutil.copytree(EXAMPLES, root, ignore=shutil.ignore_patterns(".batchspec", "out", "*.lock"))
    settings = root / "batchspec.yaml"
    settings.write_text(settings.read_text().replace("backend: smollm", "backend: echo"))
    planned = run_cli(["plan", "--provider", "local"], cwd=root)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    applied = run_cli(["apply", "--yes", "--provider", "local"], cwd=root)
    assert applied.returncode == 3, "an echo is no JSON, so that all orders fail"
    graded = run_cli(["eval", "--format", "json", "--provider", "local"], cwd=root)
    assert graded.returncode == 5, graded.stderr
    found = json.loads(graded.stdout)
    assert found["errors"] == {}
    assert {one["job"] for one in found["metrics"]} == SPECS.keys()
    whole = {(one["job"], one["metric"]): one for one in found["metrics"] if one["slice"] is None}
    assert whole["orders", "exact"]["no_answer"]["failed"] == 60
    plain = whole["sentences[template=templates/sentence-plain.j2]", "label"]
    assert (plain["rows"], plain["clusters"]) == (72, 24)
    [gate] = found["gates"]
    assert (gate["job"], gate["verdict"]) == ("choice", "fails")
