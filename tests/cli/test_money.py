"""Tokens and money from plan to lockfile, and budgets that hold. Through the command and the embedded service."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.priced import HOME, Write, batches, batchspec, plan_json
from tests.cli_runner import run_cli
from tests.conftest import REPOSITORY, SPEC
from tests.sampling import sampled


def test_the_estimate_stands_beside_what_it_came_to(project: Write) -> None:
    root = project()
    told = batchspec(root, "plan")
    assert "in    51 tokens, exact (3 requests counted)" in told
    assert "out   up to 192 tokens" in told
    assert "batch rate)" in told
    batchspec(root, "apply", "--yes")
    [line] = batches(root)
    # 51 tokens in at $0.075 a million, at most 192 out at $0.30 a million: 61.425 millionths, and a limit is rounded up.
    assert line["estimate"] == {"input_tokens": 51, "output_tokens": 192, "cost": 0.000062}
    usage = line["usage"]
    assert "at most $0.000062 planned" in " ".join(batchspec(root, "status").split())
    assert line["cost"] == round((usage["input_tokens"] * 0.075 + usage["output_tokens"] * 0.3) / 1e6, 6)


@pytest.mark.slow
def test_the_next_estimate_knows_what_earlier_runs_took(project: Write) -> None:
    root = project({"specs/hello.yaml": SPEC.replace("gpt-4o-mini", "claude-3-5-haiku-latest")})
    assert "estimated (4 bytes a token, a rule of thumb)" in batchspec(root, "plan")
    batchspec(root, "apply", "--yes")
    (root / "data/rows.jsonl").write_text('{"id": 9, "text": "nine"}\n')
    told = batchspec(root, "plan")
    assert "bytes a token over 1 earlier batch)" in told
    assert "full price: it has no batch rate" in told


def test_a_model_without_a_price_has_tokens_and_says_so(project: Write) -> None:
    root = project({"specs/hello.yaml": SPEC.replace("gpt-4o-mini", "llama3.3-70b-instruct")})
    assert "cost  no price known for llama3.3-70b-instruct" in batchspec(root, "plan")
    batchspec(root, "apply", "--yes")
    [line] = batches(root)
    assert line["cost"] is None
    (root / "batchspec.yaml").write_text(
        "version: 1\nproject: tests\nprices: {llama3.3-70b-instruct: {input: 1, output: 2}}\n"
    )
    (root / "data/rows.jsonl").write_text('{"id": 9, "text": "nine"}\n')
    assert "(batchspec.yaml)" in batchspec(root, "plan")


@pytest.mark.parametrize(
    ("budget", "message"),
    sampled(
        [
            ("{max_requests: 39}", "hello: max_requests: 40 requests; the budget is 39, so 1 too many"),
            ("{max_cost_usd: 0.0001}", "hello: max_cost_usd: up to $0.00085; the budget is $0.00010"),
            ("{max_tokens: 100}", "hello: max_tokens: up to"),
        ],
        1,
    ),
)
def test_over_budget_nothing_is_submitted(with_spec: Callable[[str], Path], budget: str, message: str) -> None:
    root = with_spec(f"budget: {budget}\n")
    assert f"Over budget: {message}" in batchspec(root, "plan")
    assert message in batchspec(root, "apply", "--yes", expect=1)
    assert batches(root) == []


def test_a_budget_for_all_jobs_and_the_reason_that_breaks_it(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("")
    (root / "batchspec.yaml").write_text("version: 1\nproject: tests\nbudget: {max_requests: 10}\n")
    assert "all jobs: max_requests: 40 requests" in batchspec(root, "apply", "--yes", expect=1)
    assert "needs a reason" in batchspec(root, "apply", "--yes", "--budget-override", " ", expect=1)
    batchspec(root, "apply", "--yes", "--budget-override", "the board wants it today")
    assert [line["override"] for line in batches(root)] == ["the board wants it today"]
    assert "Nothing to do" in batchspec(root, "apply")


def test_inside_its_budget_a_reason_is_not_kept(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("budget: {max_requests: 40}\n")
    batchspec(root, "apply", "--yes", "--budget-override", "just in case")
    assert "override" not in batches(root)[0]


def test_answers_that_are_paid_for_again_are_in_the_ceiling(with_spec: Callable[[str], Path]) -> None:
    """`retry.on: [invalid]` asks again what was billed, so "at most" is all rounds, and so is what a budget bounds."""
    root = with_spec("schema: schemas/any.json\nretry: {rounds: 3, on: [invalid]}\nbudget: {max_requests: 100}\n")
    (root / "schemas").mkdir()
    (root / "schemas/any.json").write_text('{"type": "object"}')
    once = batchspec(root, "plan", "--json")
    spec = root / "specs/hello.yaml"
    assert "max_requests: up to 120 requests; the budget is 100, so 20 too many" in once
    assert "invalid answers are retried, and paid up to 3 times" in batchspec(root, "plan")
    ceilings = [plan_json(root)["cost"]["usd"]["ceiling"]]
    spec.write_text(spec.read_text().replace("rounds: 3", "rounds: 1"))
    ceilings.append(plan_json(root)["cost"]["usd"]["ceiling"])
    assert ceilings[0] == pytest.approx(3 * ceilings[1], abs=0.000002)
    # The echo backend answers with text, which is never an object: every round is asked, and paid.
    spec.write_text(spec.read_text().replace("rounds: 1", "rounds: 2"))
    batchspec(root, "apply", "--yes", expect=3)
    assert sum(line["requests"] for line in batches(root)) == 80
    assert sum(line["cost"] for line in batches(root)) <= 2 * ceilings[1]


@pytest.mark.slow
def test_what_may_be_paid_again_of_requests_in_flight_is_in_the_ceiling(with_spec: Callable[[str], Path]) -> None:
    """Nothing is to be submitted now, and answers that are awaited may not fit: another round would be paid."""
    root = with_spec("schema: schemas/any.json\nretry: {rounds: 2, on: [invalid]}\n")
    (root / "schemas").mkdir()
    (root / "schemas/any.json").write_text('{"type": "object"}')
    first = plan_json(root)["cost"]["usd"]["ceiling"]
    batchspec(root, "apply", "--yes", "--no-wait")
    now = plan_json(root)
    assert (now["in_flight"], now["submit"], now["cost"]["requests"]) == (40, 0, 0)
    assert now["cost"]["usd"]["ceiling"] == pytest.approx(first / 2, abs=0.000002)
    assert "of 40 in flight, invalid answers are retried, and paid once more" in batchspec(root, "plan")
    assert "of 40 in flight" in batchspec(root, "plan", "--format", "markdown")
    batchspec(root, "plan", "--out", "plan.json")
    settings = root / "batchspec.yaml"
    kept = settings.read_text()
    settings.write_text(f"{kept}budget: {{max_requests: 39}}\n")
    told = batchspec(root, "apply", "--yes", expect=1)
    assert "max_requests: up to 40 requests; the budget is 39, so 1 too many" in told
    settings.write_text(f"{kept}prices: {{gpt-4o-mini: {{input: 100, output: 100}}}}\n")
    assert "and the plan allows $0.0" in batchspec(root, "apply", "plan.json", expect=1)
    settings.write_text(kept)
    batchspec(root, "apply", "plan.json", expect=3)
    assert [line["requests"] for line in batches(root)] == [40, 40]


def test_a_saved_plan_bounds_the_cost(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("")
    batchspec(root, "plan", "--out", "plan.json")
    saved = json.loads((root / "plan.json").read_text())
    assert saved["jobs"][0]["cost_usd"] == pytest.approx(0.00084, abs=0.00001)
    (root / "batchspec.yaml").write_text(
        "version: 1\nproject: tests\nprices: {gpt-4o-mini: {input: 100, output: 100}}\n"
    )
    told = batchspec(root, "apply", "plan.json", expect=1)
    assert "it could cost up to $0.3" in told
    assert "and the plan allows $0.00085 at most" in told
    assert batches(root) == []


@pytest.mark.slow
def test_a_saved_plan_keeps_to_budgets_and_prices_of_the_day_it_is_applied(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("")
    batchspec(root, "plan", "--out", "plan.json")
    settings = root / "batchspec.yaml"
    settings.write_text("version: 1\nproject: tests\nbudget: {max_requests: 39}\n")
    assert "all jobs: max_requests: 40 requests" in batchspec(root, "apply", "plan.json", expect=1)
    settings.write_text("version: 1\nproject: tests\nprices: {m-1: {input: 1, output: 1}}\n")
    spec = root / "specs/hello.yaml"
    spec.write_text(spec.read_text().replace("gpt-4o-mini", "m-1"))
    batchspec(root, "plan", "--out", "plan.json")
    settings.write_text("version: 1\nproject: tests\n")
    told = batchspec(root, "apply", "plan.json", expect=1)
    assert "no price is known for it now, and the plan allows $0.0" in told
    assert batches(root) == []


def test_beyond_a_size_a_sample_is_counted_with_its_error_bar(with_spec: Callable[[str], Path]) -> None:
    root = with_spec("")
    rows = ({"id": n, "text": f"{n} " + "word " * (1 + n * 7 % 13)} for n in range(2_500))
    (root / "data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = batchspec(root, "plan")
    assert re.search(r"in    about [\d,]+ tokens, estimated \(2,000 of 2,500 requests counted, ±0\.\d %\)", told)
    sampled = plan_json(root)["cost"]["input_tokens"]
    lines = [json.loads(line) for line in batchspec(root, "plan", "--exact", "--json").splitlines()]
    exact = next(line for line in lines if line["type"] == "job")["cost"]["input_tokens"]
    assert exact["certainty"] == "exact"
    assert exact["low"] == exact["expected"] == exact["high"]
    assert sampled["low"] <= exact["expected"] <= sampled["high"] < 1.02 * sampled["low"]


def test_the_plan_for_machines_has_the_cost(project: Write) -> None:
    """A ceiling of 61.425 millionths is 62, wherever it is written down."""
    root = project()
    job = plan_json(root)
    assert job["cost"]["input_tokens"] == {"low": 51, "expected": 51, "high": 51, "certainty": "exact"}
    assert job["cost"]["output_tokens"] == {"high": 192}
    assert job["cost"]["usd"] == {"expected": 0.000062, "ceiling": 0.000062}
    batchspec(root, "plan", "--out", "plan.json")
    assert json.loads((root / "plan.json").read_text())["jobs"][0]["cost_usd"] == 0.000062
    told = batchspec(root, "apply", "plan.json", "--json")
    outcome = next(line for line in map(json.loads, told.splitlines()) if line["type"] == "outcome")
    assert outcome["expected"] == 0.000062


@pytest.mark.slow
def test_the_examples_are_estimated_as_the_service_counts_them(tmp_path: Path) -> None:
    """For OpenAI models: input tokens equal; and once answers are as long as before, the cost is within 5 %."""
    root = tmp_path / "examples"
    for folder in ("specs", "templates", "data"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("*.lock"))
    # A thousand times the real prices: a lockfile's costs are rounded to a millionth of a dollar.
    models = ("gpt-4o-mini", "gpt-4.1-mini", "claude-3-5-haiku-latest")
    prices = ", ".join(f"{model}: {{input: 75, output: 300}}" for model in models)
    (root / "batchspec.yaml").write_text(f"version: 1\nproject: examples\nprices: {{{prices}}}\n")

    def run() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        """By job: what the plan's estimate is, and the newest batch's line."""
        told = [json.loads(line) for line in batchspec(root, "plan", "--json").splitlines()]
        planned = {line["job"]: line["cost"] for line in told if line["type"] == "job" and "cost" in line}
        batchspec(root, "apply", "--yes")
        lines = [
            json.loads(line)
            for lock in (root / HOME / "specs").glob("*.lock")
            for line in lock.read_text().splitlines()
        ]
        newest = {
            line["job"]: line for line in sorted(lines, key=lambda line: line.get("created_at", "")) if "batch" in line
        }
        return {job: (planned[job], newest[job]) for job in planned}

    counted = 0
    for planned, line in run().values():
        if planned["input_tokens"]["certainty"] == "exact":
            counted += 1
            assert planned["input_tokens"]["expected"] == line["usage"]["input_tokens"]
    assert counted >= 2
    for path in (root / "specs").glob("*.yaml"):
        text = path.read_text()
        path.write_text(text.replace("salt: ", "# ") + "salt: again\n")
    for planned, line in run().values():
        assert planned["usd"]["expected"] == pytest.approx(line["cost"], rel=0.05)


def test_apply_counts_answers_that_were_cut_off(project: Write) -> None:
    root = project({"specs/hello.yaml": SPEC.replace("max_tokens: 64", "max_tokens: 1")})
    told = batchspec(root, "apply", "--yes")
    assert (
        "answers cut off at the token limit; raise the limit, or accept them\n" in told.partition("hello: succeeded")[2]
    )


def test_tokens_of_the_local_model_are_estimated_and_bounded(project: Write) -> None:
    """Its chat template adds tokens to each request; a request line has more bytes than tokens."""
    settings = "version: 1\nproject: tests\nproviders: {local: {kind: local, backend: smollm}}\n"
    root = project({"batchspec.yaml": settings})
    done = run_cli(["plan", "--offline", "--json", "--provider", "local"], cwd=root)
    job = next(line for line in map(json.loads, done.stdout.splitlines()) if line["type"] == "job")
    tokens = job["cost"]["input_tokens"]
    assert tokens["certainty"] == "estimated"
    assert tokens["high"] > 3 * 100, "more than a hundred bytes for each of three requests"
    assert "about" in run_cli(["plan", "--offline", "--provider", "local"], cwd=root).stdout
