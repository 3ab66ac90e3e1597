"""Creating jobs: what a body may say, idempotency, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.service.conftest import Caller, Serve, chat, message, response


def test_a_request_id_makes_one_job(api: Caller) -> None:
    """A repeated create answers 201 with the job there is, at any state of it."""
    file_id = api.upload([chat("r1")])
    first = api.create(file_id, request_id="one")
    api.ended(first.json()["id"])
    second = api.create(file_id, request_id="one", metadata={"other": "metadata"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] == second.json()["id"]
    assert second.json()["status"] == "completed"
    assert len(api.http.get("/v1/batches").json()["data"]) == 1


def test_creates_that_arrive_at_once_make_one_job(api: Caller) -> None:
    file_id = api.upload([chat("r1")])
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: api.create(file_id, request_id="same"), range(32)))
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.json()["id"] for reply in replies}) == 1


def test_a_request_id_outlives_a_restart(serve: Serve) -> None:
    api = serve()
    file_id = api.upload([chat("r1")])
    first = api.create(file_id, request_id="one").json()
    api.stop()
    again = serve().create(file_id, request_id="one")
    assert (again.status_code, again.json()["id"]) == (201, first["id"])


def test_a_request_id_is_compared_by_content_not_by_file(api: Caller) -> None:
    """The same bytes under another file id are the same order; other bytes are a conflict."""
    first = api.create(api.upload([chat("r1")]), request_id="one").json()
    again = api.create(api.upload([chat("r1")]), request_id="one")
    assert (again.status_code, again.json()["id"]) == (201, first["id"])
    other = api.create(api.upload([chat("r2")]), request_id="one")
    assert other.status_code == 409
    assert "request_id" in other.json()["message"]


def test_a_request_id_with_another_endpoint_is_a_conflict(api: Caller) -> None:
    file_id = api.upload([chat("r1")])
    assert api.create(file_id, request_id="one").status_code == 201
    assert api.create(file_id, request_id="one", endpoint="/v1/chat/completions").status_code == 201
    assert api.create(file_id, request_id="one", endpoint="/v1/responses").status_code == 409
    assert api.create(file_id, request_id="one", provider="anthropic").status_code == 409


def test_request_ids_belong_to_an_account(serve: Serve) -> None:
    api = serve(token="a", tokens=("a", "b"))
    other = Caller(str(api.http.base_url), "b")
    first = api.create(api.upload([chat("r1")]), request_id="one").json()
    second = other.create(other.upload([chat("r2")]), request_id="one")
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]
    other.close()


def test_nothing_uploaded_is_400_and_an_unknown_file_404(api: Caller) -> None:
    assert api.create(api.intent()["file_id"]).status_code == 400
    for file_id in (str(uuid4()), "file_abc123", "../../etc/passwd", "x" * 10_000):
        reply = api.create(file_id)
        assert (reply.status_code, reply.json()["id"]) == (404, "not_found")


def test_an_expired_file_is_404_and_its_job_is_still_found(serve: Serve) -> None:
    api = serve(file_ttl=1.0)
    file_id = api.upload([chat("r1")])
    first = api.create(file_id, request_id="one").json()
    api.ended(first["id"])
    api.until_true(lambda: api.create(file_id).status_code == 404)
    again = api.create(file_id, request_id="one")
    assert (again.status_code, again.json()["id"]) == (201, first["id"])


@pytest.mark.parametrize(
    ("more", "field"),
    [
        pytest.param({"provider": "mistral"}, "provider", id="provider"),
        pytest.param({"provider": 7}, "provider", id="provider-type"),
        pytest.param({"endpoint": "/v1/embeddings"}, "endpoint", id="endpoint"),
        pytest.param({"provider": "anthropic", "endpoint": "/v1/responses"}, "endpoint", id="anthropic-endpoint"),
        pytest.param({"completion_window": "1h"}, "completion_window", id="window"),
        pytest.param({"completion_window": ["24h"]}, "completion_window", id="window-type"),
        pytest.param({"request_id": 5}, "request_id", id="request-id-type"),
        pytest.param({"request_id": ""}, "request_id", id="request-id-empty"),
        pytest.param({"request_id": "x" * 600}, "request_id", id="request-id-long"),
        pytest.param({"metadata": {"a": 1}}, "metadata", id="metadata-values"),
        pytest.param({"metadata": []}, "metadata", id="metadata-type"),
        pytest.param({"parameters": "hot"}, "parameters", id="parameters"),
        pytest.param({"model": {}}, "model", id="model"),
        pytest.param({"webhook": {"url": "ftp://x", "secret": "s"}}, "webhook.url", id="webhook-url"),
        pytest.param({"webhook": {"url": "https://x"}}, "webhook.secret", id="webhook-secret"),
        pytest.param({"file_id": None}, "file_id", id="file-id"),
    ],
)
def test_a_wrong_field_is_refused_by_name(shared: Caller, more: dict[str, Any], field: str) -> None:
    body = {"file_id": shared.upload([chat("r1")]), **more}
    reply = shared.http.post("/v1/batches", json=body)
    assert reply.status_code == 422
    assert field in reply.json()["message"]


@pytest.mark.parametrize(
    ("line", "order", "field"),
    [
        pytest.param(message("r1"), {"provider": "openai", "endpoint": "/v1/responses"}, "provider", id="openai"),
        pytest.param(response("r1"), {"provider": "anthropic"}, "provider", id="anthropic"),
        pytest.param(message("r1"), {"endpoint": "/v1/responses"}, "endpoint", id="endpoint-only"),
    ],
)
def test_a_create_for_another_provider_than_the_first_line_is_refused(
    shared: Caller, line: Any, order: dict[str, str], field: str
) -> None:
    reply = shared.create(shared.upload([line]), **order)
    assert reply.status_code == 422
    assert reply.json()["message"].startswith(f"{field}: ")


def test_lines_that_contradict_the_create_fail_the_job(api: Caller) -> None:
    """Whether each line's url is the endpoint is what validation finds, with the number of the line."""
    batch = api.run([chat("r1")], provider="openai", endpoint="/v1/responses")
    assert batch["status"] == "failed"
    assert [error["code"] for error in batch["errors"]] == ["invalid_url", "missing_required_field"]
    batch = api.run([message("r1"), response("r2")], provider="anthropic")
    assert batch["status"] == "failed"
    assert batch["errors"][0]["line"] == 2
    assert "params" in batch["errors"][0]["message"]


def test_a_file_that_says_nothing_of_itself_makes_a_job_that_fails(api: Caller) -> None:
    for content in (b"", b"not json\n", b"[]\n", b"\xff\xfe\n", b"{}\n"):
        batch = api.run(content)
        assert batch["status"] == "failed"
        assert batch["errors"]
        assert batch["result_available"] is False
        results = api.http.get(f"/v1/batches/{batch['id']}/results")
        assert (results.status_code, results.json()["output_url"]) == (200, None)
