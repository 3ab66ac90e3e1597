"""`listen`: a webhook makes an output, within what the last apply allowed, and nothing else."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from runner.errors import ServiceError
from runner.listener.listen import ListenConfig, Listening
from runner.reconciler.observe.observe import ApplyOptions
from runner.state.ledger import Ledger
from runner.state.locks import write_lock
from tests.cli_runner import run_cli
from tests.executor.forked_service import TOKEN
from tests.listener.conftest import ENVIRON, SECRET, Scene, eventually, signed


def requests_of_the_listener(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the requests that the listener's thread sends to the service."""
    sent: list[str] = []
    real = httpx.Client.send

    def send(self: httpx.Client, request: httpx.Request, **rest: object) -> httpx.Response:
        if "authorization" in request.headers and threading.current_thread() is not threading.main_thread():
            sent.append(f"{request.method} {request.url.path}")
        return real(self, request, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx.Client, "send", send)
    return sent


def remote_ended(scene: Scene, batches: int = 1) -> bool:
    found = scene.remote()
    return len(found) == batches and all(one["status"] == "completed" for one in found)


def test_a_webhook_makes_the_output_without_a_poll(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the listener asks of the service is what it has to do: list, results, download, list."""
    with scene.listening():
        scene.spec()
        sent = requests_of_the_listener(monkeypatch)
        scene.apply(waiting=False)
        eventually((scene.root / "out/job.jsonl").exists)
        eventually(lambda: scene.events_in("done") == 1)
    assert len(scene.output()) == 3
    assert len(scene.remote()) == 1
    asked = [one for one in sent if one.startswith("GET")]
    assert len([one for one in asked if one == "GET /v1/batches"]) <= 2, asked
    assert len([one for one in asked if one != "GET /v1/batches"]) == 1, asked
    assert not scene.plan().changes


def test_the_remaining_shards_follow_webhook_by_webhook(scene: Scene) -> None:
    with scene.listening():
        scene.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
        scene.apply(waiting=False)
        eventually((scene.root / "out/job.jsonl").exists)
        eventually(lambda: scene.events_in("done") == 3)
    assert len(scene.output()) == 3
    assert len(scene.remote()) == 3
    assert not scene.plan().changes


@pytest.mark.slow
def test_jobs_that_wait_for_the_projects_room_follow_too(scene: Scene) -> None:
    """`max_in_flight` of the project counts all jobs. The end of one's batch makes room for the other."""
    settings = json.loads((scene.root / "batchspec.yaml").read_text())
    scene.write("batchspec.yaml", json.dumps({**settings, "max_in_flight": {"shards": 2}}))
    with scene.listening():
        for name in ("job", "other"):
            scene.spec(name, "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
        scene.apply(waiting=False)
        eventually(lambda: all((scene.root / f"out/{name}.jsonl").exists() for name in ("job", "other")))
    assert len(scene.remote()) == 6


@pytest.mark.parametrize("change", ["prompt", "input"])
def test_other_pins_are_downloaded_and_nothing_else(scene: Scene, change: str) -> None:
    scene.apply(waiting=False)
    if change == "input":
        scene.rows("one", "two", "three", "four")
    else:
        path = scene.root / "specs/job.yaml"
        path.write_text(path.read_text().replace("Say", "Shout"))
    eventually(lambda: remote_ended(scene))
    with scene.listening() as url:
        assert scene.send(url, scene.remote()[0]["id"]).status_code == 202
        eventually(lambda: scene.events_in("done") == 1)
    assert [line["state"] for line in scene.lines("batch")] == ["completed"]
    assert not (scene.root / "out/job.jsonl").exists()
    assert len(scene.remote()) == 1
    assert list((scene.root / ".batchspec/store").rglob("*.index.npy"))


def test_an_open_partition_is_finished_and_a_closed_one_left_alone(scene: Scene) -> None:
    """No other partition is started. What is closed is not read, so its input may be gone."""
    scene.spec("job", "partition: day", "vars: {day: ''}")
    path = scene.root / "specs/job.yaml"
    path.write_text(path.read_text().replace("out/job.jsonl", "'out/{{ vars.day }}.jsonl'"))
    done = run_cli(
        ["apply", "--yes", "--no-wait", "--var", "day=2026-11-30"],
        cwd=scene.root,
        env={**os.environ, **scene.environ},
    )
    assert done.returncode == 0, done.stderr
    eventually(lambda: remote_ended(scene))
    batch = scene.remote()[0]["id"]
    with scene.listening() as url:
        assert scene.send(url, batch).status_code == 202
        eventually((scene.root / "out/2026-11-30.jsonl").exists)
        eventually(lambda: scene.events_in("done") == 1)
        (scene.root / "data/rows.jsonl").unlink()
        assert scene.send(url, batch, number="2").status_code == 202
        eventually(lambda: scene.events_in("done") == 2)
    assert len(scene.remote()) == 1
    assert len(scene.told("output.written")) == 1


def test_a_job_that_no_apply_started_is_not_started(scene: Scene) -> None:
    scene.spec("other")
    with scene.listening() as url:
        assert scene.send(url, "batch_unknown").status_code == 202
        eventually(lambda: scene.events_in("done") == 1)
    assert scene.remote() == []
    assert not (scene.root / "out").exists()
    assert not (scene.root / "specs/job.lock").exists()


def test_pins_whose_first_create_never_happened_are_not_started(scene: Scene) -> None:
    """An apply died between its grant and its first create. An event of an older batch must not start it."""
    scene.apply(waiting=False)
    eventually(lambda: remote_ended(scene))
    scene.rows("one", "two", "three", "four")

    class Died(BaseException):
        pass

    def die(*_: object) -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "create_intended", die)
        with pytest.raises(Died):
            scene.apply(waiting=False)
    with scene.listening() as url:
        scene.send(url, scene.remote()[0]["id"])
        eventually(lambda: scene.events_in("done") == 1)
    assert len(scene.remote()) == 1


def test_after_no_new_new_requests_stay_where_they_are(scene: Scene) -> None:
    scene.apply(waiting=False)
    (scene.root / ".batchspec/ledger.db").unlink()
    scene.apply(ApplyOptions(no_new=True), waiting=False)
    with scene.listening() as url:
        scene.send(url, scene.remote()[0]["id"])
        eventually(lambda: scene.events_in("done") == 1)
    assert len(scene.output()) == 3
    assert len(scene.remote()) == 1


def test_without_the_ledger_the_lockfile_names_the_job(scene: Scene) -> None:
    """Another machine submitted it. Nothing is submitted here; a complete output is written."""
    scene.apply(waiting=False)
    eventually(lambda: remote_ended(scene))
    (scene.root / ".batchspec/ledger.db").unlink()
    with scene.listening() as url:
        scene.send(url, scene.remote()[0]["id"])
        eventually((scene.root / "out/job.jsonl").exists)
    assert len(scene.remote()) == 1


def test_while_apply_holds_the_lock_the_event_waits(scene: Scene) -> None:
    scene.apply(waiting=False)
    eventually(lambda: remote_ended(scene))
    with scene.listening() as url:
        with write_lock(scene.root / ".batchspec/locks/specs--job.lock"):
            assert scene.send(url, scene.remote()[0]["id"]).status_code == 202
            eventually(lambda: scene.told("lock.waiting"))
            assert scene.events_in("waiting") == 1
            assert not (scene.root / "out").exists()
        eventually((scene.root / "out/job.jsonl").exists)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"secret": "whsec_YW5vdGhlcg=="}, 401),
        ({"shift": -361}, 400),
        ({"shift": 600}, 400),
        ({"shift": -361, "secret": "whsec_YW5vdGhlcg=="}, 401),
        ({"body": b" " * 1_000_001}, 413),
        ({"body": b"not json"}, 200),
        ({"type": "response.completed"}, 200),
        ({"data": {"id": 7}}, 200),
        ({"type": "batch.in_progress"}, 200),
    ],
    ids=["forged", "old", "future", "old and forged", "large", "no JSON", "another event", "no id", "no end"],
)
def test_what_is_refused_or_means_nothing(scene: Scene, change: dict[str, Any], status: int) -> None:
    """`shift` is in seconds from the time of the call, which may be minutes after the tests were collected."""
    with scene.listening() as url:
        at = {"at": time.time() + change["shift"]} if "shift" in change else {}
        rest = {name: value for name, value in change.items() if name != "shift"}
        assert scene.send(url, "batch_x", **rest, **at).status_code == status
        assert scene.events_in("waiting") == scene.events_in("done") == 0


def test_unsigned_calls_and_other_places(scene: Scene) -> None:
    with scene.listening() as url:
        content = b'{"type": "batch.completed", "data": {"id": "b"}}'
        assert httpx.post(url, content=content).status_code == 401
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
            headers = signed("1", content)
            assert httpx.post(url, content=content, headers={**headers, name: "x"}).status_code == 401
        assert httpx.post(url, content=content + b" ", headers=signed("1", content)).status_code == 401
        assert httpx.post(f"{url}-other", content=content, headers=signed("1", content)).status_code == 404
        assert httpx.get(url).status_code == 405
        assert scene.events_in("waiting") == scene.events_in("done") == 0


def test_an_event_comes_once(scene: Scene) -> None:
    """Also when its sender signs it once more, which is how it repeats what got no answer."""
    scene.apply(waiting=False)
    eventually(lambda: remote_ended(scene))
    batch = scene.remote()[0]["id"]
    with scene.listening() as url:
        assert scene.send(url, batch).status_code == 202
        eventually(lambda: scene.events_in("done") == 1)
        written = len(scene.told("output.written"))
        assert scene.send(url, batch, at=time.time() - 10).status_code == 200
        assert (scene.events_in("waiting"), scene.events_in("done")) == (0, 1)
    with scene.listening() as url:
        assert scene.send(url, batch).status_code == 200
    assert len(scene.told("output.written")) == written == 1


def test_a_projects_own_secret_and_openais_body(scene: Scene) -> None:
    """OpenAI's webhooks belong to a project, and their secret to a profile."""
    secret = "whsec_cHJvamVjdA=="
    settings = json.loads((scene.root / "batchspec.yaml").read_text())
    settings["providers"]["test"]["webhook_secret"] = {"env": "BATCHSPEC_WEBHOOK_PROJECT"}
    scene.write("batchspec.yaml", json.dumps(settings))
    scene.apply(waiting=False)
    eventually(lambda: remote_ended(scene))
    ENVIRON["BATCHSPEC_WEBHOOK_PROJECT"] = secret
    try:
        with scene.listening() as url:
            event = {"id": "evt_1", "object": "event", "created_at": 1, "type": "batch.completed"}
            body = json.dumps({**event, "data": {"id": scene.remote()[0]["id"]}}).encode()
            assert scene.send(url, "", secret=secret, body=body).status_code == 202
            eventually((scene.root / "out/job.jsonl").exists)
    finally:
        del ENVIRON["BATCHSPEC_WEBHOOK_PROJECT"]


@pytest.mark.slow
def test_output_is_on_disk_within_two_seconds(scene: Scene) -> None:
    """From the end of the batch at the service, through the webhook."""
    with scene.listening():
        scene.spec()
        scene.apply(waiting=False)
        eventually(lambda: remote_ended(scene))
        began = time.monotonic()
        eventually((scene.root / "out/job.jsonl").exists)
        assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_burst_of_webhooks(scene: Scene, count: int) -> None:
    """All are on disk before their answer, and one job is continued a few times, not a thousand."""
    scene.apply(waiting=False)
    eventually(lambda: remote_ended(scene))
    batch = scene.remote()[0]["id"]
    with scene.listening() as url, httpx.Client(limits=httpx.Limits(max_connections=50), timeout=60) as client:

        def send(number: int) -> int:
            content = json.dumps({"type": "batch.completed", "data": {"id": batch}}).encode()
            return client.post(url, content=content, headers=signed(f"{number}", content)).status_code

        with ThreadPoolExecutor(50) as pool:
            assert set(pool.map(send, range(count))) == {202}
        eventually(lambda: scene.events_in("done") == count)
    assert len(scene.output()) == 3
    assert len(scene.told("output.written")) == 1


def test_a_service_that_is_down_is_asked_once_more(scene: Scene) -> None:
    scene.apply(waiting=False)
    eventually(lambda: remote_ended(scene))
    batch = scene.remote()[0]["id"]
    path = scene.root / "specs/job.yaml"
    good = path.read_text()
    with scene.listening() as url:
        path.write_text("version: 7\n")
        assert scene.send(url, batch).status_code == 202
        time.sleep(0.2)
        assert scene.events_in("waiting") == 1
        path.write_text(good)
        eventually((scene.root / "out/job.jsonl").exists)


def test_there_must_be_a_secret(scene: Scene) -> None:
    with pytest.raises(ServiceError) as caught:
        Listening(ListenConfig(scene.root), lambda _: None, environ={"BATCHSPEC_TEST_KEY": TOKEN}).serve()
    assert caught.value.code == "BS705"
    assert "BATCHSPEC_WEBHOOK_TEST is not set" in caught.value.hint


def test_one_listener_for_a_project(scene: Scene) -> None:
    with scene.listening(), pytest.raises(ServiceError) as caught, scene.listening():
        pass
    assert caught.value.code == "BS702"


def test_secrets_are_not_on_disk(scene: Scene) -> None:
    with scene.listening() as url:
        scene.send(url, "batch_x", note="a prompt")
        files = [path.read_bytes() for path in scene.folder.rglob("*") if path.is_file()]
    assert files
    assert not any(SECRET.encode() in one or b"a prompt" in one for one in files)
