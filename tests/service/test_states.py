"""Lists, cancelling, expiring, pausing: the states of jobs beside the straight way."""

from __future__ import annotations

import itertools
import threading
from typing import Any
from uuid import uuid4

import pytest

from tests.service.conftest import Caller, Serve, chat


def ids_of(api: Caller, **query: Any) -> list[str]:
    return [batch["id"] for batch in api.http.get("/v1/batches", params=query).json()["data"]]


def test_pages_are_newest_first_and_complete(api: Caller) -> None:
    file_id = api.upload([chat("a")])
    made = [api.create(file_id).json()["id"] for _ in range(25)]
    page = api.http.get("/v1/batches").json()
    assert page["object"] == "list"
    assert [batch["id"] for batch in page["data"]] == made[:4:-1]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (made[24], made[5], True)
    assert [edge["node"] for edge in page["edges"]] == page["data"]
    assert page["page_info"]["endCursor"] == page["last_id"]
    assert page["page_info"]["hasNextPage"] is True
    rest = api.http.get("/v1/batches", params={"after": page["last_id"]}).json()
    assert [batch["id"] for batch in rest["data"]] == made[4::-1]
    assert rest["has_more"] is False
    last = api.http.get("/v1/batches", params={"after": rest["last_id"]}).json()
    assert (last["data"], last["first_id"], last["last_id"], last["has_more"]) == ([], None, None, False)


def test_pages_are_stable_while_jobs_are_added(api: Caller) -> None:
    """Somebody who pages through sees each job that was there at the start, once."""
    file_id = api.upload([chat("a")])
    made = [api.create(file_id).json()["id"] for _ in range(30)]
    seen: list[str] = []
    done = threading.Event()

    def add() -> None:
        while not done.is_set():
            api.create(file_id)

    adding = threading.Thread(target=add)
    adding.start()
    try:
        after: dict[str, str] = {}
        for _ in itertools.count():
            page = api.http.get("/v1/batches", params={"limit": 7, **after}).json()
            seen += [batch["id"] for batch in page["data"]]
            if not page["has_more"]:
                break
            after = {"after": page["last_id"]}
    finally:
        done.set()
        adding.join()
    assert len(seen) == len(set(seen))
    assert [batch_id for batch_id in seen if batch_id in set(made)] == made[::-1]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param({"limit": "1"}, 200, id="one"),
        pytest.param({"limit": "100"}, 200, id="hundred"),
        pytest.param({"limit": "0"}, 400, id="zero"),
        pytest.param({"limit": "101"}, 400, id="too-many"),
        pytest.param({"limit": "-1"}, 400, id="negative"),
        pytest.param({"limit": "ten"}, 400, id="word"),
        pytest.param({"limit": "٣"}, 400, id="other-digits"),
        pytest.param({"limit": "9" * 5000}, 400, id="long"),
        pytest.param({"status": "queued"}, 200, id="status"),
        pytest.param({"status": "done"}, 400, id="unknown-status"),
        pytest.param({"after": "x"}, 400, id="after-no-id"),
        pytest.param({"after": str(uuid4())}, 400, id="after-unknown"),
    ],
)
def test_the_lists_query_is_checked(shared: Caller, query: dict[str, str], status: int) -> None:
    assert shared.http.get("/v1/batches", params=query).status_code == status


def test_the_list_can_be_narrowed_to_a_status(api: Caller) -> None:
    good = api.run([chat("a")])["id"]
    bad = api.run(b"nonsense\n")["id"]
    assert ids_of(api, status="completed") == [good]
    assert ids_of(api, status="failed") == [bad]
    assert ids_of(api, status="expired") == []


def test_cancel_keeps_what_was_done(serve: Serve) -> None:
    """`cancelling` at once, `cancelled` when the requests under way have ended; their answers are kept."""
    api = serve(answer_delay=0.1)
    batch_id = api.submit([chat(f"r{index}") for index in range(200)])["id"]
    api.until(batch_id, lambda batch: batch["request_counts"]["completed"] > 0)
    reply = api.cancel(batch_id)
    assert (reply.status_code, reply.json()["status"]) == (200, "cancelling")
    assert reply.json()["cancelling_at"] is not None
    batch = api.ended(batch_id)
    assert batch["status"] == "cancelled"
    assert batch["result_available"] is True
    output, errors = api.results(batch_id)
    assert 0 < len(output) == batch["request_counts"]["completed"] < 200
    assert errors == []
    assert batch["cancelled_at"] is not None
    assert batch["completed_at"] is None


def test_cancelling_twice_is_fine_until_it_has_happened(serve: Serve) -> None:
    api = serve(answer_delay=0.6)
    batch_id = api.submit([chat(f"r{index}") for index in range(100)])["id"]
    api.until(batch_id, lambda batch: batch["status"] == "in_progress")
    assert [api.cancel(batch_id).status_code for _ in range(2)] == [200, 200]
    api.ended(batch_id)
    reply = api.cancel(batch_id)
    assert (reply.status_code, reply.json()["id"]) == (409, "conflict")


def test_a_request_that_hangs_does_not_hold_up_a_cancel_for_ever(serve: Serve) -> None:
    api = serve(answer_delay=3600.0, drain=0.2)
    batch_id = api.submit([chat("a")])["id"]
    api.until(batch_id, lambda batch: batch["status"] == "in_progress")
    api.cancel(batch_id)
    batch = api.ended(batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("cancelled", 0)
    results = api.http.get(f"/v1/batches/{batch_id}/results").json()
    assert (results["result_available"], results["output_url"]) == (True, None)


def test_cancel_is_409_on_ended_jobs_and_before_a_job_is_upstream(serve: Serve) -> None:
    """The API description: nothing is to be cancelled until there is something upstream."""
    api = serve(answer_delay=3600.0, drain=0.1, max_running=1)
    file_id = api.upload([chat("a")])
    busy = api.create(file_id).json()["id"]
    api.until(busy, lambda batch: batch["status"] == "in_progress")
    waiting = api.create(file_id).json()["id"]
    api.until(waiting, lambda batch: batch["status"] == "queued")
    reply = api.cancel(waiting)
    assert reply.status_code == 409
    assert "queued" in reply.json()["message"]
    failed = api.run(b"nonsense\n")["id"]
    assert api.cancel(failed).status_code == 409
    assert api.cancel(str(uuid4())).status_code == 404


def test_a_job_that_runs_out_of_time_expires_with_what_was_done(serve: Serve) -> None:
    api = serve(answer_delay=0.05, completion_window=0.7, drain=0.2)
    batch = api.run([chat(f"r{index}") for index in range(1000)])
    assert batch["status"] == "expired"
    assert batch["expired_at"] is not None
    assert batch["result_available"] is True
    output, errors = api.results(batch["id"])
    assert 0 < len(output) == batch["request_counts"]["completed"] < 1000
    assert errors == []


@pytest.mark.slow
def test_a_job_that_never_starts_expires_too(serve: Serve) -> None:
    api = serve(answer_delay=3600.0, drain=0.1, max_running=1, completion_window=0.8)
    file_id = api.upload([chat("a")])
    batches = [api.create(file_id).json()["id"] for _ in range(2)]
    ended = [api.ended(batch_id) for batch_id in batches]
    assert [batch["status"] for batch in ended] == ["expired", "expired"]
    assert ended[1]["in_progress_at"] is None
    assert ended[1]["result_available"] is True


def test_jobs_pause_with_the_service_and_go_on_with_the_next(serve: Serve) -> None:
    """Stopping loses nothing and asks nothing twice that was answered."""
    api = serve(answer_delay=0.02)
    batch_id = api.submit([chat(f"r{index}") for index in range(200)])["id"]
    api.until(batch_id, lambda batch: batch["request_counts"]["completed"] > 20)
    api.stop()
    api = serve()
    batch = api.ended(batch_id)
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 200)
    output, _ = api.results(batch_id)
    assert sorted(line["custom_id"] for line in output) == sorted(f"r{index}" for index in range(200))
    assert batch["usage"]["output_tokens"] == sum(line["response"]["usage"]["completion_tokens"] for line in output)


def test_a_cancel_outlives_a_restart(serve: Serve) -> None:
    api = serve(answer_delay=3600.0, drain=3600.0)
    batch_id = api.submit([chat("a")])["id"]
    api.until(batch_id, lambda batch: batch["status"] == "in_progress")
    assert api.cancel(batch_id).status_code == 200
    api.stop()
    assert serve().ended(batch_id)["status"] == "cancelled"


@pytest.mark.slow
def test_many_jobs_run_side_by_side(serve: Serve) -> None:
    api = serve(answer_delay=0.01, max_running=3)
    file_id = api.upload([chat(f"r{index}") for index in range(10)])
    batches = [api.create(file_id).json()["id"] for _ in range(20)]
    assert {api.ended(batch_id)["status"] for batch_id in batches} == {"completed"}
