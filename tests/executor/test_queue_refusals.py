"""Batches and creates that are refused as a whole: why, what is asked again by itself, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.api import load, open_project
from runner.cli.main import run
from runner.operations.status import status_or_reason
from runner.operations.verify import verify
from tests.executor.story import ROWS, SHARD, TEXTS, Clock, apply, checkout, plan, texts
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Lost, Reply, Seen
from tests.sampling import sampled

SHARDS = ROWS // SHARD
MANY = 10_000
FULL = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached for gpt-4o-mini."}
UNKNOWN = {"code": "model_not_found", "message": "The model `x` does not exist"}


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, in seconds."""
    found: list[float] = []
    sleep = Clock.sleep

    def noted(self: Clock, seconds: float) -> None:
        found.append(seconds)
        sleep(self, seconds)

    monkeypatch.setattr(Clock, "sleep", noted)
    return found


def failing(stub: Stub, fails: Callable[[int], bool], fields: dict[str, Any]) -> None:
    """Fail those batches as a whole, by their number from 1; the answer has these fields more."""

    def changed(batch: dict[str, Any]) -> dict[str, Any]:
        number = int(batch["batch_id"].removeprefix("batch-"))
        if not fails(number):
            return batch
        stub.jobs[number - 1].status, stub.jobs[number - 1].steps = "failed", []
        stub.jobs[number - 1].answers = {}
        batch.pop("failed_at", None)  # the stub says an hour later, until when results may still come
        counts = {"total": batch["request_counts"]["total"], "completed": 0, "failed": 0}
        return {**batch, "status": "failed", "request_counts": counts, **fields}

    def answer(seen: Seen) -> Reply:
        told = stub.answer(seen)
        if told.status != 200:
            return told
        body = told.body
        body = {**body, "data": [changed(one) for one in body["data"]]} if "data" in body else changed(body)
        return Reply(told.status, body, told.headers)

    stub.on("GET", "/v1/batches", *[Instead(answer)] * MANY)
    stub.on("GET", r"/v1/batches/batch-\d+", *[Instead(answer)] * MANY)
    none = Reply(412, {"id": "x", "message": "none"})

    def results(seen: Seen) -> Reply:
        number = int(seen.path.split("/")[3].removeprefix("batch-"))
        return none if fails(number) else stub.answer(seen)

    stub.on("GET", "/v1/batches/.*/results", *[Instead(results)] * MANY)


WORDS = [
    pytest.param({"errors": {"object": "list", "data": [{**UNKNOWN, "line": None}]}}, id="openai"),
    pytest.param({"errors": [UNKNOWN]}, id="list"),
    pytest.param({"errors": UNKNOWN}, id="object"),
    pytest.param({"errors": None, "error": UNKNOWN}, id="error"),
    pytest.param({"errors": [{"error": UNKNOWN}]}, id="nested"),
    pytest.param({"errors": [], "error_code": UNKNOWN["code"], "failure_reason": UNKNOWN["message"]}, id="reason"),
]


@pytest.mark.parametrize("fields", sampled(WORDS, 2))
def test_why_a_batch_failed_is_said_once_wherever_the_service_says_it(
    stub: Stub, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """In apply, in the plan, in `status`, and in the output's rows."""
    failing(stub, lambda _: True, fields)
    root = checkout(tmp_path, stub.url)
    outcome, watcher = apply(root)
    assert outcome.end == "failed"
    assert len(stub.jobs) == SHARDS, "it is not asked again"
    [said] = outcome.failures
    assert said.startswith(f"{ROWS} requests: The model `x` does not exist (model_not_found) [3 batches")
    assert [fields["reason"] for name, fields in watcher.events if name == "batch.failed"] == [
        "The model `x` does not exist (model_not_found)"
    ]
    assert list(plan(root).failures) == [said]
    rows = [json.loads(line) for line in (root / "out/told.jsonl").read_text().splitlines()]
    assert {row["error"]["code"] for row in rows} == {"model_not_found"}
    assert all("The model `x` does not exist" in row["error"]["message"] for row in rows)
    with open_project(load(root=root), environ={}, jobs=1) as opened:
        [spec] = opened.context.project.jobs
        assert status_or_reason(opened.context, spec, None).failures == (said,)


@pytest.mark.parametrize("message", sampled(["The queue is full", "oops"], 1))
def test_plain_words_in_place_of_errors(stub: Stub, tmp_path: Path, message: str) -> None:
    failing(stub, lambda number: number <= SHARDS, {"errors": None, "message": message})
    outcome, _ = apply(checkout(tmp_path, stub.url))
    assert outcome.end == ("succeeded" if "queue" in message else "failed")


def test_a_full_queue_is_waited_for_and_uses_no_round(stub: Stub, tmp_path: Path, naps: list[float]) -> None:
    """All three are refused; then one goes at a time, and `retry.rounds` of 1 is enough."""
    failing(stub, lambda number: number <= SHARDS, {"errors": [FULL]})
    root = checkout(tmp_path, stub.url)
    spec = root / "specs/told.yaml"
    spec.write_text(spec.read_text() + "retry: {rounds: 1}\n")
    outcome, watcher = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert texts(root) == TEXTS
    assert len(stub.jobs) == 2 * SHARDS
    assert outcome.submitted == ROWS
    waits = [fields for name, fields in watcher.events if name == "queue.full"]
    assert 200 < int(str(waits[0]["seconds"])) <= 300
    assert "Enqueued token limit reached" in str(waits[0]["reason"])
    assert sum(naps) > 250
    assert '"round":2' not in (root / "specs/told.lock").read_text()
    assert not plan(root).changes
    assert not plan(root).failures


def test_in_flight_is_lowered_and_the_next_goes_when_one_ends(stub: Stub, tmp_path: Path, naps: list[float]) -> None:
    """The first is accepted and runs for a while; no pause of five minutes is needed once it has ended."""
    stub.steps = ["validating", *["in_progress"] * 6]
    failing(stub, lambda number: number in {2, 3}, {"errors": [FULL]})
    outcome, _ = apply(checkout(tmp_path, stub.url))
    assert outcome.end == "succeeded", outcome.message
    assert len(stub.jobs) == SHARDS + 2
    assert max(naps) < 300


def test_a_shard_that_never_fits_stops_the_job(stub: Stub, tmp_path: Path, naps: list[float]) -> None:
    """Three refusals with nothing else in flight; the pauses double."""
    failing(stub, lambda _: True, {"errors": [FULL]})
    root = checkout(tmp_path, stub.url)
    spec = root / "specs/told.yaml"
    spec.write_text(spec.read_text().replace(f"max_requests: {SHARD}", f"max_requests: {ROWS}"))
    outcome, watcher = apply(root)
    assert (outcome.end, outcome.codes) == ("error", ("BS511",))
    assert "Enqueued token limit reached" in outcome.message
    assert "shards.max_bytes" in outcome.message
    assert len(stub.jobs) == 3
    waits = [int(str(fields["seconds"])) for name, fields in watcher.events if name == "queue.full"]
    assert len(waits) == 2
    assert 200 < waits[0] <= 300
    assert 500 < waits[1] <= 600


@pytest.mark.slow
def test_killed_while_it_waits_the_next_apply_goes_on(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked twice: what was refused goes out once, under a key of its own."""
    failing(stub, lambda number: number <= SHARDS, {"errors": [FULL]})
    root = checkout(tmp_path, stub.url)
    with monkeypatch.context() as patch:
        left = iter(range(12))  # looks until it waits for room, and some more

        def killed(_self: Clock, _seconds: float) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        patch.setattr(Clock, "sleep", killed)
        with pytest.raises(KeyboardInterrupt):
            apply(root)
    assert len(stub.jobs) == SHARDS
    outcome, _ = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert len(stub.jobs) == 2 * SHARDS
    keys = [job.order["request_id"] for job in stub.jobs]
    assert len(set(keys)) == len(keys)
    assert sorted(key for job in stub.jobs for key in job.answers) == sorted(
        json.loads(line)["request"] for line in (root / "out/told.jsonl").read_text().splitlines()
    )


CREATES = [
    pytest.param(429, {"error": {"type": "x", "code": "token_limit_exceeded", "message": "full"}}, id="openai"),
    pytest.param(400, {"code": "batch_queue_full", "message": "full"}, id="flat"),
]


@pytest.mark.parametrize(("status", "body"), CREATES)
def test_a_create_that_a_full_queue_refuses_is_sent_again(
    stub: Stub, tmp_path: Path, status: int, body: dict[str, Any]
) -> None:
    stub.on("POST", "/v1/batches", Reply(status, body), Reply(status, body))
    root = checkout(tmp_path, stub.url)
    outcome, watcher = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert texts(root) == TEXTS
    assert len(stub.jobs) == SHARDS
    told = [name for name, _ in watcher.events]
    assert "queue.full" in told
    assert "create.doubtful" not in told


NO_MONEY = [
    pytest.param(429, {"error": {"code": "billing_hard_limit_reached", "message": "no money"}}, id="openai"),
    pytest.param(429, {"error": {"type": "insufficient_quota", "code": None, "message": "no money"}}, id="type"),
    pytest.param(429, {"id": "insufficient_quota", "message": "no money"}, id="flat"),
    pytest.param(402, {"detail": "no money"}, id="402"),
    pytest.param(
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low: no money"}},
        id="anthropic",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), sampled(NO_MONEY, 1))
def test_an_account_that_cannot_pay_ends_the_job_at_once(
    stub: Stub, tmp_path: Path, naps: list[float], status: int, body: dict[str, Any]
) -> None:
    """The service's words, exit 1, nothing is sent again; the next apply has no create in doubt."""
    stub.on("POST", "/v1/batches", *[Reply(status, body)] * 4)
    root = checkout(tmp_path, stub.url)
    outcome, watcher = apply(root)
    assert (outcome.end, outcome.codes) == ("error", ("BS512",))
    assert "no money" in outcome.message
    assert len(stub.calls("POST", "/v1/batches")) <= SHARDS, "each at most once"
    assert sum(naps) < 5
    assert "create.doubtful" not in [name for name, _ in watcher.events]
    stub._script.clear()
    outcome, watcher = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert len(stub.jobs) == SHARDS
    assert "create.doubtful" not in [name for name, _ in watcher.events]


def test_what_is_in_flight_is_fetched_though_the_account_cannot_pay(stub: Stub, tmp_path: Path) -> None:
    accepted = Instead(stub.answer)
    stub.on("POST", "/v1/batches", accepted, *[Reply(402, {"message": "no money"})] * 4)
    root = checkout(tmp_path, stub.url)
    outcome, _ = apply(root)
    assert (outcome.end, outcome.codes) == ("error", ("BS512",))
    assert len(stub.jobs) == 1
    assert (root / "specs/told.lock").read_text().count('"state":"completed"') == 1


def test_a_refusal_after_a_lost_create_does_not_settle_it(stub: Stub, tmp_path: Path) -> None:
    """The first create was heard and its answer lost: its batch is found by the next apply, and not made again."""
    stub.late = 4
    stub.on("POST", "/v1/batches", Lost(), *[Reply(402, {"message": "no money"})] * 6)
    root = checkout(tmp_path, stub.url)
    spec = root / "specs/told.yaml"
    spec.write_text(spec.read_text().replace(f"max_requests: {SHARD}", f"max_requests: {ROWS}"))
    apply(root)
    stub._script.clear()
    apply(root)
    outcome, _ = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert len(stub.jobs) == 1


def test_verify_names_the_row_of_a_changed_file_of_failed_rows(stub: Stub, tmp_path: Path) -> None:
    failing(stub, lambda number: number == 1, {"errors": [UNKNOWN]})
    root = checkout(tmp_path, stub.url)
    spec = root / "specs/told.yaml"
    spec.write_text(spec.read_text().replace("told.jsonl}", "told.jsonl, errors: out/failed.jsonl}"))
    apply(root)
    file = root / "out/failed.jsonl"
    file.write_text(file.read_text().replace("model_not_found", "changed", 1))
    row = json.loads(file.read_text().splitlines()[0])["id"]
    with open_project(load(root=root), environ={}, jobs=1, reads=True) as opened:
        [prepared], _ = opened.prepare(opened.context.project.jobs)
        [wrong] = verify(opened.context, prepared).wrong
    assert f"the first row that differs is line 1: row {row}" in wrong


def test_status_without_a_key_says_so_and_since_when_its_numbers_are(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = checkout(tmp_path, stub.url)
    apply(root)
    monkeypatch.chdir(root)
    monkeypatch.delenv("MODEL_ACCESS_KEY", raising=False)
    assert run(["status"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "The service was not asked about told: the environment has no MODEL_ACCESS_KEY" in shown
    assert "They are from 20" in shown
    assert run(["status", "--json"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["not_asked"] == "the environment has no MODEL_ACCESS_KEY"
    assert line["since"].startswith("20")
