"""Calls to the API: what they look like, and what each trouble becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import (
    ApiError,
    Conflict,
    Malformed,
    NotFound,
    NotReady,
    OutOfMoney,
    ProviderError,
    RateLimited,
    Rejected,
    ServerError,
    Unauthorized,
    Unreachable,
)
from runner.jobspec.settings import DigitalOceanProfile
from runner.providers import open_api
from runner.providers.digitalocean import DigitalOcean
from runner.providers.protocol import CreateRequest
from tests.providers.conftest import BATCH, GOOD, LIST, ORDER, SMALL, Clock, Make, has_no_secret, told_of
from tests.providers.stub import KEY, Stub
from tests.providers.stub_steps import Hang, Raw, Reply, Reset


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected), (401, Unauthorized), (402, OutOfMoney), (403, Unauthorized), (404, NotFound), (405, ApiError),
        (408, ServerError), (409, Conflict), (410, NotFound), (412, NotReady), (413, Rejected), (418, ApiError),
        (422, Rejected), (429, RateLimited), (500, ServerError), (502, ServerError), (503, ServerError),
        (504, ServerError), (301, ApiError), (302, ApiError), (304, ApiError), (307, ApiError), (308, ApiError),
    ],
)  # fmt: skip
def test_a_status_is_one_error(stub: Stub, api: DigitalOcean, status: int, kind: type[ApiError]) -> None:
    body = b"" if status == 304 else {"id": "the_code", "message": "the reason", "request_id": "req-9"}
    stub.on("GET", BATCH, *[Reply(status, body)] * 5)
    with pytest.raises(ApiError) as caught:
        api.get_batch("b-1")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert has_no_secret(caught.value)
    if status != 304:
        assert (caught.value.error_id, caught.value.request_id) == ("the_code", "req-9")
        assert f"{status} the reason (request req-9)" in caught.value.message


@pytest.mark.parametrize(
    ("step", "words"),
    [
        pytest.param(Reset(), "ReadError|WriteError|RemoteProtocolError", id="connection reset"),
        pytest.param(Raw(b""), "RemoteProtocolError", id="closed without an answer"),
        pytest.param(Raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "RemoteProtocolError", id="not HTTP"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), "RemoteProtocolError", id="cut short"),
        pytest.param(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), "RemoteProtocolError", id="odd length"),
        pytest.param(
            Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), "RemoteProtocolError", id="odd chunk"
        ),
        pytest.param(
            Raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000), "RemoteProtocolError|ReadError", id="endless headers"
        ),
        pytest.param(Hang(), "ReadTimeout", id="silence"),
    ],
)
def test_no_answer_is_unreachable(stub: Stub, client: Make, step: Any, words: str) -> None:
    """After five tries; and the same, untried, for a create."""
    api = client(stub, limits=replace(SMALL, read_timeout=0.2) if isinstance(step, Hang) else SMALL)
    stub.on("GET", BATCH, *[step] * 5)
    with pytest.raises(Unreachable, match=words) as caught:
        api.get_batch("b-1")
    assert len(stub.calls("GET")) == 5
    assert has_no_secret(caught.value)
    stub.on("POST", LIST, step)
    with pytest.raises(Unreachable, match=words):
        api.create_batch(ORDER)
    assert len(stub.calls("POST")) == 1


def test_nobody_there(clock: Clock, tmp_path: Path) -> None:
    with Stub() as gone:
        url = gone.url
    profile = DigitalOceanProfile(kind="digitalocean", base_url=url)
    api = open_api(profile, key=KEY, service_folder=tmp_path, environ={}, sleep=clock.sleep)
    with pytest.raises(Unreachable, match="ConnectError"):
        api.get_batch("b-1")
    assert len(clock.naps) == 4
    api.close()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>Please sign in to the hotel's network</html>", id="HTML"),
        pytest.param(b'{"id": "b-1", "status": "queu', id="cut short"),
        pytest.param(b'{"id": "b-1", "status": NaN}', id="NaN"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a":' * 20_000 + b"1" + b"}" * 20_000, id="deep and whole"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b"null", id="null"),
    ],
)
def test_malformed_answers(stub: Stub, api: DigitalOcean, body: bytes) -> None:
    """Not retried: the same would come again. For a create it is a lost answer, as the batch may well exist."""
    stub.on("GET", BATCH, Reply(200, body))
    with pytest.raises(Malformed):
        api.get_batch("b-1")
    stub.on("POST", LIST, Reply(201, body))
    with pytest.raises(Unreachable, match="can't be parsed"):
        api.create_batch(ORDER)
    assert len(stub.seen) == 2


def test_a_huge_answer_is_not_read(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", BATCH, Reply(200, b" " * 10_000_000 + b"{}"))
    with pytest.raises(Malformed, match="longer than 200000 bytes"):
        api.get_batch("b-1")


def test_an_answer_that_does_not_end_is_given_up(stub: Stub, client: Make) -> None:
    api = client(stub, limits=replace(SMALL, answer_time=0.0))
    stub.on("GET", BATCH, *[GOOD] * 5)
    with pytest.raises(Unreachable, match="did not end"):
        api.get_batch("b-1")


def test_a_huge_refusal_is_read_as_far_as_needed(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", BATCH, Reply(404, b'{"id": "not_found", "message": "' + b"x" * 5_000_000))
    with pytest.raises(NotFound) as caught:
        api.get_batch("b-1")
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        pytest.param(b"", "", "400", id="empty"),
        pytest.param(b"<html>Bad gateway</html>", "", "400", id="HTML"),
        pytest.param(b'{"error": {"code": "bad_model", "message": "no such model"}}', "bad_model", "no such model", id="OpenAI's"),
        pytest.param(b'{"id": "c", "message": "a\\u001b[2Jb\\nc"}', "c", "a [2Jb c", id="control characters"),
        pytest.param(b'{"id": ["x"], "message": {"a": 1}}', "", "400", id="odd types"),
    ],
)  # fmt: skip
def test_the_service_s_own_words(stub: Stub, api: DigitalOcean, body: bytes, code: str, words: str) -> None:
    stub.on("GET", BATCH, Reply(400, body))
    with pytest.raises(Rejected) as caught:
        api.get_batch("b-1")
    assert caught.value.error_id == code
    assert words in caught.value.message
    assert caught.value.message.isprintable()


def test_a_refusal_that_quotes_secrets(stub: Stub, api: DigitalOcean) -> None:
    """Neither the key, nor a webhook's secret, nor a presigned query, wherever the service repeats them."""
    said = f"key {KEY} and whsec-123 at https://s3.example/x?X-Amz-Signature=abc are wrong"
    stub.on("POST", LIST, Reply(400, {"id": "bad", "message": said, "request_id": KEY}))
    order = CreateRequest("file-1", "openai", "/v1/responses", "rid-1", {}, ("https://h", "whsec-123"))
    with pytest.raises(Rejected) as caught:
        api.create_batch(order)
    text = told_of(caught.value)
    assert not any(secret in text for secret in (KEY, "whsec-123", "abc"))


def test_what_a_call_looks_like(stub: Stub, api: DigitalOcean) -> None:
    stub.on("POST", LIST, Reply(201, {"id": "b-1", "status": "validating"}))
    api.create_batch(ORDER)
    [seen] = stub.seen
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"
    assert json.loads(seen.body)["request_id"] == "rid-1"


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://x", "http://", "http://u:p@127.0.0.1", "http://127.0.0.1?x=1"])
def test_what_is_no_base_url(url: str) -> None:
    with pytest.raises(ProviderError):
        DigitalOcean(url, KEY)


def test_a_base_url_with_a_path(stub: Stub, clock: Clock) -> None:
    api = DigitalOcean(f"{stub.url}/gateway/", KEY, sleep=clock.sleep)
    stub.on("GET", "/gateway/v1/batches/b-1", GOOD)
    assert api.get_batch("b-1").batch_id == "b-1"
    api.close()
