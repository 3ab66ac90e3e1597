"""What is promised of outputs: costs by the price of the day, failed rows under the lockfile's eye, cells as they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from runner.api import load, open_project
from runner.operations.status import job_status
from runner.operations.verify import Verified, verify
from runner.outputs.failure_counts import failed_of
from runner.reconciler.plan.plan import Write
from tests.executor.conftest import Team
from tests.sampling import sampled

Make = Callable[..., Team]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PRICES = {"gpt-4o-mini": {"input": 0.075, "output": 0.3, "cached": 0.0375}}


def settings(team: Team, **more: Any) -> None:
    known = json.loads((team.root / "batchspec.yaml").read_text())
    team.write("batchspec.yaml", json.dumps({**known, **more}))


def spec(team: Team, output: str, *more: str) -> None:
    team.spec("job", *more)
    path = team.root / "specs/job.yaml"
    path.write_text(path.read_text().replace("{path: out/job.jsonl}", output))


def verified(team: Team) -> Verified:
    project = load(root=team.root, environ=team.environ)
    with open_project(project, environ=team.environ, jobs=1) as opened:
        [one], _ = opened.prepare(project.jobs)
        return verify(opened.context, one)


def said_of_the_output(team: Team) -> str:
    project = load(root=team.root, environ=team.environ)
    with open_project(project, environ=team.environ) as opened:
        return job_status(opened.context, project.jobs[0], None).output


def test_each_row_says_what_it_cost(team: Make) -> None:
    """By the rates of the batch's line, exactly; the rows together cost what the batch did."""
    one = team()
    settings(one, prices=PRICES)
    spec(one, "{path: out/job.jsonl, include: [usage, cost, batch]}")
    one.apply()
    rows = one.output()
    assert list(rows[0]) == ["id", "usage", "cost", "batch"]
    used = rows[0]["usage"]
    exact = (Decimal("0.075") * used["input_tokens"] + Decimal("0.3") * used["output_tokens"]) / 1_000_000
    assert Decimal(str(rows[0]["cost"])) == exact
    [line] = one.lines("batch")
    assert line["price"] == PRICES["gpt-4o-mini"]
    total = sum((Decimal(str(row["cost"])) for row in rows), Decimal(0))
    assert total.quantize(Decimal("0.000001"), ROUND_HALF_UP) == Decimal(str(line["cost"]))


def test_another_price_changes_nothing_that_was_paid(team: Make) -> None:
    """An output that is written again under other prices has the same bytes; new rows cost what they cost."""
    one = team()
    settings(one, prices=PRICES)
    spec(one, "{path: out/job.jsonl, include: [usage, cost, batch]}")
    one.apply()
    before = (one.root / "out/job.jsonl").read_bytes()
    settings(one, prices={"gpt-4o-mini": {"input": 75, "output": 300}})
    assert not one.plan().changes
    (one.root / "out/job.jsonl").unlink()
    one.apply()
    assert (one.root / "out/job.jsonl").read_bytes() == before
    one.rows("one", "two", "three", "three")
    one.rows("one", "two", "three", "four")
    one.apply()
    rows = one.output()
    assert (one.root / "out/job.jsonl").read_bytes().startswith(before)
    assert rows[3]["cost"] > 100 * rows[2]["cost"]


def test_what_nobody_knows_the_price_of_costs_null(team: Make) -> None:
    one = team()
    spec(one, "{path: out/job.jsonl, include: [cost]}")
    path = one.root / "specs/job.yaml"
    path.write_text(path.read_text().replace("gpt-4o-mini", "a-model-of-ones-own"))
    one.apply()
    assert [row["cost"] for row in one.output()] == [None, None, None]


def test_costs_in_csv_have_no_exponents(team: Make) -> None:
    one = team()
    settings(one, prices={"gpt-4o-mini": {"input": 0.0001, "output": 0}})
    spec(one, "{path: out/job.csv, include: [cost]}")
    one.apply()
    rows = list(csv.DictReader(io.StringIO((one.root / "out/job.csv").read_text())))
    assert rows[0]["cost"].startswith("0.00000000")
    assert Decimal(rows[0]["cost"]) > 0


def failing(team: Team) -> None:
    team.write("data/rows.jsonl", '{"id": 1, "text": "{\\"n\\": 1}"}\n{"id": 2, "text": "no"}\n')
    team.write("schemas/n.json", json.dumps(SCHEMA))
    spec(team, "{path: out/job.jsonl, errors: out/failed.jsonl}", "schema: schemas/n.json", "tolerate: 1")
    path = team.root / "specs/job.yaml"
    path.write_text(path.read_text().replace("Say {{ text }}.", "{{ text }}"))


def harm(path: Path, how: str) -> None:
    if how == "lost":
        path.unlink()
    else:
        path.write_text("{}\n")


@pytest.mark.parametrize("how", sampled(["lost", "edited"], 1))
def test_failed_rows_apart_are_rewritten_where_they_are_not_what_was_written(team: Make, how: str) -> None:
    one = team()
    failing(one)
    one.apply()
    apart = one.root / "out/failed.jsonl"
    before = apart.read_bytes()
    assert [json.loads(line)["id"] for line in before.splitlines()] == [2]
    [line] = one.lines("output")
    assert (line["errors"]["path"], line["errors"]["rows"], line["rows"]) == ("out/failed.jsonl", 1, 1)
    assert not one.plan().changes
    assert any("out/failed.jsonl: 1 failed row, as recorded" in text for text in verified(one).right)

    harm(apart, how)
    [action] = one.plan().jobs[0].actions
    assert isinstance(action, Write)
    assert action.reason == "the file of failed rows is not what the lockfile says"
    assert any("out/failed.jsonl differs from the lockfile" in text for text in verified(one).wrong)
    assert "out/failed.jsonl: differs from the lockfile" in said_of_the_output(one)
    one.apply()
    assert apart.read_bytes() == before
    assert not one.plan().changes


@pytest.mark.parametrize("include", sampled(["text, error", "text, error, request"], 1))
def test_failed_rows_apart_count_beside_the_others(team: Make, include: str) -> None:
    """Also where no row names its request."""
    one = team()
    failing(one)
    path = one.root / "specs/job.yaml"
    path.write_text(path.read_text().replace("failed.jsonl}", f"failed.jsonl, include: [{include}]}}"))
    one.apply()
    [spec] = load(root=one.root, environ=one.environ).jobs
    found = failed_of(spec, one.root / "out/job.jsonl", one.root / "out/failed.jsonl")
    assert (found.failed, found.requests) == (1, 2)


def test_failed_rows_go_where_the_spec_says_now(team: Make) -> None:
    one = team()
    failing(one)
    one.apply()
    path = one.root / "specs/job.yaml"
    path.write_text(path.read_text().replace("out/failed.jsonl", "out/bad.jsonl"))
    one.apply()
    assert (one.root / "out/bad.jsonl").read_bytes() == (one.root / "out/failed.jsonl").read_bytes()
    path.write_text(path.read_text().replace(", errors: out/bad.jsonl", ""))
    one.apply()
    assert [row["id"] for row in one.output()] == [1, 2]
    assert "errors" not in one.lines("output")[0]


def test_cells_are_as_the_model_wrote_them(team: Make) -> None:
    """Whatever a spreadsheet would make of them: a changed answer would not be the answer (docs/spec.md, Output)."""
    texts = [
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\ttab",
        '=HYPERLINK("x")',
        "a\nb",
        "a\r\nb",
        "a\rb",
        "\x00",
        "  spaces  ",
        "ünï",
    ]
    one = team()
    one.rows(*texts)
    spec(one, "{path: out/job.csv, include: [text]}")
    path = one.root / "specs/job.yaml"
    path.write_text(path.read_text().replace("Say {{ text }}.", "{{ text }}"))
    one.apply()
    with (one.root / "out/job.csv").open(encoding="utf-8", newline="") as file:
        found = [row["text"] for row in csv.DictReader(file)]
    assert len(found) == len(texts)
    assert [text.strip() for text in found] == [text.strip() for text in texts]


def test_a_file_of_somebodys_own_is_kept_aside(team: Make) -> None:
    """An output's path may name rows that nobody can get back."""
    one = team()
    one.write("data/mine.jsonl", '{"id": 1, "text": "precious"}\n')
    spec(one, "{path: data/mine.jsonl}")
    one.apply()
    [told] = one.told("output.kept")
    assert (one.root / str(told["path"])).read_text() == '{"id": 1, "text": "precious"}\n'
    (one.root / "data/mine.jsonl").write_text("{}\n")
    one.apply()
    assert len(one.told("output.kept")) == 1, "what was an output is written again without a word"
