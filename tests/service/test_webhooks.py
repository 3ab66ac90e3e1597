"""Webhooks: one at every end of a job, signed, tried again, through restarts, and never in a job's way."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import logging
import random
import socket
import sqlite3
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from runner.service.db.database import Database
from runner.service.db.outbox import Outbox
from tests.service.conftest import Caller, Serve, chat
from tests.service.receiver import Receiver, serve_receiver
from tests.service.test_crash import process

SECRET = "a secret of the user's own"
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as receiver:
        yield receiver


def hook(receiver: Receiver, secret: str = SECRET, path: str = "/hooks/private-path") -> dict[str, str]:
    return {"url": f"{receiver.url}{path}", "secret": secret}


def outbox(data: Path, batch_id: str) -> Any:
    with closing(Database(data / "service.db")) as db:
        return Outbox(db).history(batch_id)


def settled(api: Caller, data: Path, batch_id: str) -> Any:
    """The delivery and its attempts, once nothing more will be tried."""

    def over() -> bool:
        delivery, _ = outbox(data, batch_id)
        return delivery is not None and delivery.due_at is None

    api.until_true(over)
    return outbox(data, batch_id)


def test_every_terminal_state_is_told(serve: Serve, tmp_path: Path, receiver: Receiver) -> None:
    """Once each, with the job as the API shows it."""
    api = serve(answer_delay=0.02, drain=0.05)
    webhook = hook(receiver)
    ids = {
        "completed": api.submit([chat("a")], webhook=webhook)["id"],
        "failed": api.submit(b"nonsense\n", webhook=webhook)["id"],
        "cancelled": api.submit([chat(f"r{index}") for index in range(2000)], webhook=webhook)["id"],
    }
    api.until(ids["cancelled"], lambda batch: batch["status"] == "in_progress")
    assert api.cancel(ids["cancelled"]).status_code == 200
    for batch_id in ids.values():
        settled(api, tmp_path / "data", batch_id)
    final = {status: api.get(batch_id) for status, batch_id in ids.items()}
    api.stop()
    api = serve(answer_delay=60, completion_window=0.2, drain=0.05)
    ids["expired"] = api.submit([chat("a")], webhook=webhook)["id"]
    settled(api, tmp_path / "data", ids["expired"])
    final["expired"] = api.get(ids["expired"])
    events = {event["data"]["id"]: event for event in (one.event for one in receiver.received)}
    assert len(receiver.received) == len(events) == 4
    for status, batch_id in ids.items():
        assert events[batch_id]["type"] == f"batch.{status}"
        assert events[batch_id]["data"] == final[status]
        assert events[batch_id]["timestamp"] == final[status][f"{status}_at"]


def test_a_job_without_a_webhook_tells_nobody(serve: Serve, tmp_path: Path) -> None:
    api = serve()
    batch = api.run([chat("a")])
    assert outbox(tmp_path / "data", batch["id"]) == (None, [])


@pytest.mark.parametrize(
    "secret", [SECRET, WHSEC, WHSEC.rstrip("="), "sécret ☂"], ids=["own", "whsec", "unpadded", "utf8"]
)
def test_signatures_are_those_of_standard_webhooks(
    api: Caller, tmp_path: Path, receiver: Receiver, secret: str
) -> None:
    """The library that receivers use verifies them; so does the scheme's formula, written out."""
    batch = api.run([chat("a")], webhook=hook(receiver, secret))
    settled(api, tmp_path / "data", batch["id"])
    (received,) = receiver.received
    assert received.path == "/hooks/private-path"
    assert received.headers["content-type"] == "application/json"
    message_id, at = received.headers["webhook-id"], received.headers["webhook-timestamp"]
    assert abs(int(at) - time.time()) < 60
    verified = Webhook(secret if secret.startswith("whsec_") else secret.encode()).verify(
        received.content, received.headers
    )
    assert verified == received.event
    key = base64.b64decode(secret[6:] + "==") if secret.startswith("whsec_") else secret.encode()
    signed = hmac.new(key, f"{message_id}.{at}.".encode() + received.content, hashlib.sha256).digest()
    assert received.headers["webhook-signature"] == "v1," + base64.b64encode(signed).decode()


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "whsec_ü", "whsec_="])
def test_a_secret_that_can_not_sign_is_refused_at_once(api: Caller, secret: str) -> None:
    """Not when the job has ended, hours later."""
    webhook = {"url": "http://127.0.0.1:9/", "secret": secret}
    reply = api.create(api.upload([chat("a")]), webhook=webhook)
    assert reply.status_code == 422
    assert "webhook.secret" in reply.json()["message"]
    assert secret not in reply.json()["message"] or secret == "whsec_"


@pytest.mark.slow
def test_what_fails_is_tried_again_with_growing_pauses(serve: Serve, tmp_path: Path) -> None:
    """The same message under the same id, each attempt signed anew; redirects are not followed."""
    with serve_receiver(lambda before: [500, 302, 429, 204][before]) as receiver:
        api = serve(webhook_backoff=0.05)
        batch = api.run([chat("a")], webhook=hook(receiver))
        delivery, attempts = settled(api, tmp_path / "data", batch["id"])
    assert [(one.number, one.status, one.error) for one in attempts] == [
        (1, 500, None),
        (2, 302, None),
        (3, 429, None),
        (4, 204, None),
    ]
    assert delivery.delivered_at is not None
    assert {one.path for one in receiver.received} == {"/hooks/private-path"}
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
    assert len({one.content for one in receiver.received}) == 1
    for received in receiver.received:
        Webhook(SECRET.encode()).verify(received.content, received.headers)
    pauses = [later.at - (one.at + one.seconds) for one, later in itertools.pairwise(attempts)]
    # 0.05 s, then five times as long each time, give or take a quarter.
    assert pauses[0] >= 0.037
    assert pauses[1] >= 0.187
    assert pauses[2] >= 0.937


def test_it_gives_up_after_three_retries_and_says_so(
    serve: Serve, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serve_receiver(lambda _before: 503) as receiver:
        api = serve(webhook_backoff=0.01)
        batch = api.run([chat("a")], webhook=hook(receiver))
        delivery, attempts = settled(api, tmp_path / "data", batch["id"])
        api.stop()
        assert serve().get(batch["id"])["status"] == "completed"
        assert len(receiver.received) == 4
    assert (delivery.delivered_at, [one.status for one in attempts]) == (None, [503] * 4)
    said = capfd.readouterr().err
    assert said.count("webhook.failed") == 3
    assert said.count("webhook.given_up") == 1


def test_nobody_there_and_no_answer_are_attempts_with_a_reason(serve: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        nobody = f"http://127.0.0.1:{placeholder.getsockname()[1]}/"
    release = threading.Event()
    with serve_receiver(lambda _before: 200 if release.wait(5) else 500) as receiver:
        api = serve(webhook_backoff=0.01)
        refused = api.run([chat("a")], webhook={"url": nobody, "secret": SECRET})
        _, attempts = settled(api, tmp_path / "data", refused["id"])
        assert {(one.status, (one.error or "").split(":")[0]) for one in attempts} == {(None, "ConnectError")}
        api = serve(data=tmp_path / "other", webhook_backoff=0.01, webhook_timeout=0.1)
        slow = api.run([chat("a")], webhook=hook(receiver))
        _, attempts = settled(api, tmp_path / "other", slow["id"])
        assert {(one.status, one.error) for one in attempts} == {(None, "no answer within 0.1 seconds")}
        release.set()


def test_a_receiver_that_hangs_holds_up_neither_jobs_nor_other_webhooks(serve: Serve, tmp_path: Path) -> None:
    release, released = threading.Event(), []

    def hang(_before: int) -> int:
        released.append(release.wait(30))
        return 200

    with serve_receiver(hang) as hanging, serve_receiver() as receiver:
        api = serve()
        for index in range(5):
            api.run([chat(f"r{index}")], webhook=hook(hanging))
        batch = api.run([chat("a")], webhook=hook(receiver))
        _, attempts = settled(api, tmp_path / "data", batch["id"])
        assert [one.status for one in attempts] == [200]
        api.until_true(lambda: len(hanging.received) == 5)
        api.stop()
        assert released == []
        release.set()


def test_a_restart_loses_nothing_and_repeats_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Killed with one webhook acknowledged, one waiting to be tried again and one without an answer yet."""
    release = threading.Event()
    with (
        serve_receiver() as good,
        serve_receiver(lambda before: 500 if before == 0 else 200) as failing,
        serve_receiver(lambda before: 200 if before or release.wait(30) else 500) as hanging,
    ):
        with process(tmp_path, webhook_backoff=0.5) as (running, api):
            first, second, third = [
                api.submit([chat("a")], webhook=hook(one))["id"] for one in (good, failing, hanging)
            ]
            settled(api, tmp_path, first)
            api.until_true(lambda: len(outbox(tmp_path, second)[1]) == 1 and len(hanging.received) == 1)
            running.kill()
            running.wait()
        release.set()
        with process(tmp_path, webhook_backoff=0.5) as (_, api):
            assert [one.status for one in settled(api, tmp_path, second)[1]] == [500, 200]
            assert [one.status for one in settled(api, tmp_path, third)[1]] == [200]
            assert api.run([chat("a")], webhook=hook(good))["status"] == "completed"
            api.until_true(lambda: len(good.received) == 2)
    assert good.received[0].event["data"]["id"] == first
    assert good.received[1].event["data"]["id"] != first
    # The receiver that had the message but could not say so gets it again, and knows it by its id.
    assert len({one.headers["webhook-id"] for one in hanging.received}) == 1


@pytest.mark.slow
def test_kills_at_random_moments_lose_no_webhook(tmp_path: Path) -> None:
    """Every job's message is acknowledged in the end; and never again once the service has noted that it was."""
    numbers = random.Random(7)
    came: Counter[str] = Counter()
    acknowledged: Counter[str] = Counter()
    noted: dict[str, int] = {}
    jobs: list[str] = []

    def script(before: int) -> int:
        batch_id = taking.received[before].event["data"]["id"]
        came[batch_id] += 1
        if came[batch_id] == 1 and int(batch_id[-1], 16) % 2:
            return 503
        acknowledged[batch_id] += 1
        return 200

    with serve_receiver(script) as taking:
        for _ in range(3):
            with process(tmp_path, webhook_backoff=0.1) as (running, api):
                jobs += [api.submit([chat("a")], webhook=hook(taking))["id"] for _ in range(5)]
                settled(api, tmp_path, jobs[0])
                time.sleep(numbers.uniform(0, 0.4))
                running.kill()
                running.wait()
            for batch_id in jobs:
                delivery, _ = outbox(tmp_path, batch_id)
                if delivery is not None and delivery.delivered_at is not None:
                    noted.setdefault(batch_id, acknowledged[batch_id])
        with process(tmp_path, webhook_backoff=0.1) as (_, api):
            for batch_id in jobs:
                delivery, _ = settled(api, tmp_path, batch_id)
                assert delivery.delivered_at is not None
    assert set(acknowledged) == set(jobs)
    assert jobs[0] in noted
    assert {batch_id: acknowledged[batch_id] for batch_id in noted} == noted


def test_the_secret_is_in_no_log_and_in_no_answer_and_is_forgotten_when_it_is_over(
    serve: Serve, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is the URL's path, which often is a secret too, also where the program logs what httpx says."""
    caplog.set_level(logging.DEBUG)
    with serve_receiver(lambda before: 200 if before else 500) as receiver:
        api = serve(webhook_backoff=0.05)
        batch = api.run([chat("a")], webhook=hook(receiver))
        answers = [api.get(batch["id"]), api.http.get("/v1/batches").json()]
        settled(api, tmp_path / "data", batch["id"])
        bodies = b"".join(one.content for one in receiver.received)
        api.stop()
    said = "".join(capfd.readouterr()) + caplog.text + repr(answers) + bodies.decode()
    assert "webhook.failed" in said
    assert receiver.url in said
    assert SECRET not in said
    assert "private-path" not in said
    path = tmp_path / "data" / "service.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as db:
        (kept,) = db.execute("SELECT webhook FROM batches").fetchone()
    assert orjson.loads(kept) == {"url": f"{receiver.url}/hooks/private-path"}


@pytest.mark.slow
def test_a_webhook_comes_twice_and_late_where_that_was_asked_for(serve: Serve, tmp_path: Path) -> None:
    """The same message under the same id; the second time is not an attempt of the log's."""
    with serve_receiver() as receiver:
        api = serve(faults=("webhook-twice=@1", "webhook-late=@1:2"))
        late = api.run([chat("a")], webhook=hook(receiver))
        twice = api.run([chat("b")], webhook=hook(receiver))
        attempts = {batch["id"]: settled(api, tmp_path / "data", batch["id"])[1] for batch in (late, twice)}
        api.until_true(lambda: len(receiver.received) == 3)
    assert [one.event["data"]["id"] for one in receiver.received] == [twice["id"], twice["id"], late["id"]]
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 2
    assert [len(made) for made in attempts.values()] == [1, 1]
    assert attempts[late["id"]][0].at - attempts[twice["id"]][0].at > 1


def test_time_that_runs_faster_shortens_the_pauses_too(serve: Serve, tmp_path: Path) -> None:
    """At the usual pauses, the fourth attempt would come after some 155 seconds."""
    with serve_receiver(lambda before: 200 if before == 3 else 500) as receiver:
        api = serve(time_scale=1000)
        batch = api.run([chat("a")], webhook=hook(receiver))
        _, attempts = settled(api, tmp_path / "data", batch["id"])
    assert [one.status for one in attempts] == [500, 500, 500, 200]


def test_a_database_of_before_webhooks_goes_on(serve: Serve, tmp_path: Path) -> None:
    api = serve()
    batch = api.run([chat("a")])
    api.stop()
    with closing(sqlite3.connect(tmp_path / "data" / "service.db")) as db:
        db.executescript(
            "DROP TABLE deliveries; DROP TABLE attempts; ALTER TABLE batches DROP COLUMN faults;"
            " DROP INDEX batches_by_account_and_status; PRAGMA user_version = 1"
        )
    with serve_receiver() as receiver:
        api = serve()
        assert api.get(batch["id"]) == batch
        again = api.run([chat("a")], webhook=hook(receiver))
        settled(api, tmp_path / "data", again["id"])
        assert len(receiver.received) == 1


def test_it_is_told_over_https_only_to_who_can_be_trusted(serve: Serve, tmp_path: Path) -> None:
    """A receiver whose certificate is nobody's gets nothing."""
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        got: list[bytes] = []

        def answer() -> None:
            for _ in range(4):
                connection, _ = listener.accept()
                with connection, pytest.raises(ssl.SSLError):
                    got.append(context.wrap_socket(connection, server_side=True).recv(10))

        thread = threading.Thread(target=answer)
        thread.start()
        api = serve(webhook_backoff=0.01)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        batch = api.run([chat("a")], webhook={"url": url, "secret": SECRET})
        _, attempts = settled(api, tmp_path / "data", batch["id"])
        thread.join()
    assert got == []
    assert all("CERTIFICATE_VERIFY_FAILED" in (one.error or "") for one in attempts)
