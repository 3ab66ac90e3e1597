"""Fresh checkouts, lost files, imports, realms and edits between plan and apply. Each request is paid once."""

from __future__ import annotations

import itertools
import json
import shutil

import httpx
import pytest

from runner.api import load, open_project
from runner.errors import BatchspecError
from runner.operations.imports import import_batch
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.idempotency import request_id
from runner.reconciler.plan.plan import Adopt, Fetch, Write
from tests.executor.conftest import ends
from tests.executor.forked_service import TOKEN
from tests.executor.reconciling import Make, asked, forget_results
from tests.sampling import sampled


def test_applied_once_and_then_nothing_to_do(team: Make) -> None:
    one = team()
    assert ends(one.apply()) == ["succeeded"]
    assert [row["text"] for row in one.output()] == ["Say one.", "Say two.", "Say three."]
    assert not one.plan().changes
    assert asked(one) == 3


@pytest.mark.parametrize("output", sampled(["kept", "lost"], 1))
@pytest.mark.parametrize("lock", ["kept", "lost"])
def test_a_fresh_checkout_asks_nothing_again(team: Make, output: str, lock: str) -> None:
    """No `.batchspec/`, with and without the output, with and without the lockfile."""
    one = team()
    one.apply()
    before = [{**row, "batch": None} for row in one.output()]
    shutil.rmtree(one.root / ".batchspec")
    if output == "lost":
        (one.root / "out/job.jsonl").unlink()
    if lock == "lost":
        (one.root / "specs/job.lock").unlink()
    plan = one.plan().jobs[0]
    assert plan.submits == 0
    assert any(isinstance(action, Adopt) for action in plan.actions) is (lock == "lost")
    assert ends(one.apply()) == ["succeeded"]
    assert [{**row, "batch": None} for row in one.output()] == before
    assert asked(one) == 3


def test_the_plan_says_until_when_results_can_be_had(team: Make) -> None:
    one = team()
    one.apply()
    shutil.rmtree(one.root / ".batchspec")
    (one.root / "out/job.jsonl").unlink()
    [fetch] = [action for action in one.plan(offline=True).jobs[0].actions if isinstance(action, Fetch)]
    assert "the service keeps them until 20" in fetch.reason


def test_the_lockfile_of_before_the_last_run(team: Make) -> None:
    one = team()
    one.apply()
    old = (one.root / "specs/job.lock").read_bytes()
    one.rows("one", "two", "three", "four")
    one.apply()
    (one.root / "specs/job.lock").write_bytes(old)
    shutil.rmtree(one.root / ".batchspec")
    assert one.plan().jobs[0].submits == 0
    assert ends(one.apply()) == ["succeeded"]
    assert len(one.output()) == 4
    assert asked(one) == 4


def test_a_plan_says_that_the_output_is_written_to_another_file(team: Make) -> None:
    one = team()
    one.apply()
    one.spec(output="elsewhere")
    [action] = one.plan().jobs[0].actions
    assert isinstance(action, Write)
    assert action.reason == "the spec names another file than before; out/job.jsonl stays as it is"
    one.apply()
    assert not one.plan().changes
    (one.root / "out/elsewhere.jsonl").unlink()
    [action] = one.plan().jobs[0].actions
    assert isinstance(action, Write)
    assert action.reason == "the file is not there"


@pytest.mark.parametrize("offline", sampled([False, True], 1), ids=["online", "offline"])
def test_a_fresh_checkout_wants_nothing_of_batches_that_are_superseded(team: Make, offline: bool) -> None:
    one = team()
    one.apply()
    one.rows("1", "2", "3")
    one.apply()
    shutil.rmtree(one.root / ".batchspec")
    before = (one.root / "specs/job.lock").read_bytes()
    assert not one.plan(offline=offline).changes
    assert ends(one.apply()) == ["succeeded"]
    assert not list((one.root / ".batchspec").rglob("*.output.jsonl"))
    assert (one.root / "specs/job.lock").read_bytes() == before
    # A row of before is asked of the batch that answered it.
    one.rows("one", "2", "3")
    assert one.plan().jobs[0].submits == 0
    assert ends(one.apply()) == ["succeeded"]
    assert [row["text"] for row in one.output()] == ["Say one.", "Say 2.", "Say 3."]
    assert asked(one) == 6


def test_no_answer_crosses_realms(team: Make) -> None:
    """The same URL under another account label is another realm: its answers are its own."""
    one = team()
    one.apply()
    settings = json.loads((one.root / "batchspec.yaml").read_text())
    settings["providers"]["test"]["account"] = "other"
    one.write("batchspec.yaml", json.dumps(settings))
    [job] = one.plan(offline=True).jobs
    assert job.submits == 3
    assert f"no answer of theirs is used in {job.realm}" in job.notes[0]


def test_a_key_that_the_service_holds_for_another_shard_stops_the_job(team: Make, service_url: str) -> None:
    """Nothing is submitted, and a person is told which batch it is."""
    twin, one = team("twin-project"), team()
    twin.apply(waiting=False)
    key = request_id(one.root.name, "job", twin.lines("batch")[0]["shard"], 1)
    with httpx.Client(base_url=service_url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        intent = client.post("/v1/batches/files", json={"file_name": "x.jsonl"}).json()
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Something else."}]}
        line = {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body}
        httpx.put(intent["upload_url"], content=json.dumps(line).encode() + b"\n").raise_for_status()
        said = {"project": "another", "job": "job", "shard": "cd" * 32, "attempt": "1", "round": "1"}
        order = {"file_id": intent["file_id"], "completion_window": "24h", "request_id": key, "metadata": said}
        batch = client.post("/v1/batches", json=order).json()["batch_id"]
    [outcome] = one.apply()
    assert outcome.end == "error"
    assert f"batch {batch} has the key {key} and holds another shard" in outcome.message
    assert not one.remote()


def test_an_import_gives_keys_to_a_batch_made_elsewhere(team: Make, service_url: str, tmp_path: object) -> None:
    one = team()
    lines = [
        {
            "custom_id": f"mine-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            # The fields stand in another order than ours, and one request is of no use to the job.
            "body": {"messages": [{"content": f"Say {text}.", "role": "user"}], "model": "gpt-4o-mini"},
        }
        for number, text in enumerate(["three", "one", "nine"])
    ]
    sent = one.root / "elsewhere.jsonl"
    one.write("elsewhere.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    with httpx.Client(base_url=service_url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        intent = client.post("/v1/batches/files", json={"file_name": "elsewhere.jsonl"}).json()
        httpx.put(intent["upload_url"], content=sent.read_bytes()).raise_for_status()
        made = client.post("/v1/batches", json={"file_id": intent["file_id"], "completion_window": "24h"})
        batch = made.json()["batch_id"]
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ) as opened:
        assert import_batch(opened.context, project.jobs[0], batch, sent).requests == 3
        with pytest.raises(BatchspecError, match="is known already"):
            import_batch(opened.context, project.jobs[0], batch, sent)
    assert one.plan().jobs[0].submits == 1
    assert ends(one.apply()) == ["succeeded"]
    assert [row["text"] for row in one.output()] == ["Say one.", "Say two.", "Say three."]
    assert [row["batch"] == batch for row in one.output()] == [True, False, True]
    # The map stands in the store and in the output; with the store gone the output still has the answers.
    shutil.rmtree(one.root / ".batchspec")
    assert one.plan().jobs[0].submits == 0
    assert asked(one) == 1


def test_answers_that_stand_in_the_output_alone_survive_its_rewriting(
    team: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is gone, the service has forgotten the results, and a row is added."""
    one = team()
    one.apply()
    shutil.rmtree(one.root / ".batchspec")
    forget_results(monkeypatch)
    one.rows("one", "three", "four")
    assert one.plan().jobs[0].submits == 1
    assert ends(one.apply(waiting=False)) == ["running"]
    monkeypatch.undo()
    monkeypatch.setattr("runner.executor.poll.MIN_INTERVAL", {"digitalocean": 0.05})
    assert ends(one.apply()) == ["succeeded"]
    assert [row["text"] for row in one.output()] == ["Say one.", "Say three.", "Say four."]
    assert asked(one) == 4


def test_rows_that_are_removed_stay_in_the_store(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that only the output holds is kept when its row goes, and used when it comes back."""
    one = team()
    one.apply()
    shutil.rmtree(one.root / ".batchspec")
    forget_results(monkeypatch)
    one.rows("one")
    assert ends(one.apply()) == ["succeeded"]
    assert len(one.output()) == 1
    assert one.told("answers.salvaged")
    one.rows("one", "two", "three")
    assert one.plan().jobs[0].submits == 0
    assert ends(one.apply()) == ["succeeded"]
    assert [row["text"] for row in one.output()] == ["Say one.", "Say two.", "Say three."]
    assert asked(one) == 3


def test_results_that_are_gone_everywhere_are_unknown_and_never_asked_by_themselves(
    team: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team()
    one.apply()
    shutil.rmtree(one.root / ".batchspec")
    (one.root / "out/job.jsonl").unlink()
    forget_results(monkeypatch)
    assert ends(one.apply()) == ["failed"]
    assert [row["error"]["code"] for row in one.output()] == ["unknown"] * 3
    assert asked(one) == 3
    # It is known now, so that there is nothing to do until a person says so.
    assert not one.plan().changes
    # A person's word releases them, and only then are they asked again.
    assert one.plan().jobs[0].submits == 0
    word = ApplyOptions(ask_unknown=frozenset({"job"}))
    assert one.plan(word).jobs[0].submits == 3
    one.apply(word, waiting=False)
    assert asked(one) == 6


def test_an_output_is_rewritten_when_it_is_to_be_written_otherwise(team: Make) -> None:
    """The store is lost, and the spec now wants other fields: fetching the answers again does not make the file good."""
    one = team()
    one.spec("job", "replicates: 1")
    spec = (one.root / "specs/job.yaml").read_text()
    one.write("specs/job.yaml", spec.replace("{path: out/job.jsonl}", "{path: out/job.jsonl, include: [text]}"))
    one.apply()
    assert set(one.output()[0]) == {"id", "text"}
    shutil.rmtree(one.root / ".batchspec")
    one.write("specs/job.yaml", spec)
    assert ends(one.apply()) == ["succeeded"]
    assert "usage" in one.output()[0]
    assert not one.plan().changes
    assert asked(one) == 3


@pytest.mark.slow
def test_a_service_that_goes_away_while_results_are_fetched_is_waited_for(
    team: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told once, nothing asked twice."""
    one = team()
    send, left = httpx.Client.send, [6]

    def away(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        if request.url.path.endswith("/results") and left[0]:
            left[0] -= 1
            raise httpx.ConnectError("gone away", request=request)
        return send(self, request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx.Client, "send", away)
    assert ends(one.apply()) == ["succeeded"]
    assert left == [0]
    assert len(one.told("service.silent")) == 1
    assert asked(one) == 3


@pytest.mark.slow
def test_max_in_flight_over_all_jobs(team: Make) -> None:
    one = team()
    one.write(
        "batchspec.yaml",
        (one.root / "batchspec.yaml")
        .read_text()
        .replace('"version": 1', '"version": 1, "max_in_flight": {"shards": 1}'),
    )
    one.spec("job", "shards: {max_requests: 1}")
    one.spec("other", "shards: {max_requests: 1}", output="other")
    assert ends(one.apply()) == ["succeeded", "succeeded"]
    spans = sorted((batch["created_at"], batch["completed_at"]) for batch in one.remote())
    assert len(spans) == 6
    assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(spans))


def test_max_in_flight_tokens_refuses_a_batch_that_never_fits(team: Make) -> None:
    one = team()
    one.spec("job", "max_in_flight: {tokens: 10}")
    [outcome] = one.apply()
    assert outcome.end == "error"
    assert "set shards.max_bytes to 40 or less" in outcome.message
    assert not one.remote()


def test_one_job_that_fails_stops_none_of_the_others(team: Make) -> None:
    one = team()
    one.spec("bad", "max_in_flight: {tokens: 10}", output="bad")
    assert sorted(ends(one.apply())) == ["error", "succeeded"]


def test_a_foreign_output_is_kept_aside_before_it_is_replaced(team: Make) -> None:
    """Nothing in it is believed; but answers of batches that are not here may be the last copy."""
    one = team()
    row = {"id": 1, "text": "precious", "error": None, "request": "k1-" + "a" * 40, "batch": "other"}
    one.write("out/job.jsonl", json.dumps(row) + "\n")
    one.apply()
    [kept] = (one.root / ".batchspec/store").rglob("kept/*")
    assert b"precious" in kept.read_bytes()
