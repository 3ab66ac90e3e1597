"""Who is let in, the shape of errors, and what hostile input gets: an answer, never a 5xx."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import orjson
import pytest

from runner.errors import ServiceError
from runner.service import ServiceConfig
from tests.sampling import sampled
from tests.service.conftest import Caller, Serve, chat

EVERYTHING = [
    ("POST", "/v1/batches/files"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", f"/v1/batches/{uuid4()}"),
    ("POST", f"/v1/batches/{uuid4()}/cancel"),
    ("GET", f"/v1/batches/{uuid4()}/results"),
    ("GET", "/anything/else"),
]


@pytest.mark.parametrize(
    "authorization",
    sampled(
        [
            pytest.param(None, id="none"),
            pytest.param("Bearer wrong", id="wrong"),
            pytest.param("Basic secret-token", id="scheme"),
            pytest.param("secret-token", id="bare"),
            pytest.param("Bearer secret-token2", id="longer"),
            pytest.param("Bearer \u00fc\u00ff", id="not-ascii"),
        ],
        2,
    ),
)
def test_without_a_valid_token_everything_is_401(serve: Serve, authorization: str | None) -> None:
    api = serve(tokens=("secret-token",))
    headers = [(b"authorization", authorization.encode("latin-1"))] if authorization else []
    for method, path in EVERYTHING:
        reply = api.http.request(method, path, headers=headers)
        assert (reply.status_code, reply.json()["id"]) == (401, "unauthorized"), path
        assert reply.headers["www-authenticate"] == "Bearer"


def test_each_token_is_an_account_of_its_own(serve: Serve) -> None:
    """What belongs to another account is not there: 404, not 403."""
    mine = serve(token="a", tokens=("a", "b"))
    yours = Caller(str(mine.http.base_url), "b")
    file_id = mine.upload([chat("r1")])
    batch = mine.ended(mine.create(file_id).json()["id"])
    assert yours.http.get(f"/v1/batches/{batch['id']}").status_code == 404
    assert yours.http.get(f"/v1/batches/{batch['id']}/results").status_code == 404
    assert yours.cancel(batch["id"]).status_code == 404
    assert yours.create(file_id).status_code == 404
    assert yours.http.get("/v1/batches").json()["data"] == []
    assert yours.http.get("/v1/batches", params={"after": batch["id"]}).status_code == 400
    assert len(mine.http.get("/v1/batches").json()["data"]) == 1
    yours.close()


def test_presigned_urls_need_no_token(serve: Serve) -> None:
    """No Authorization header goes to a presigned URL."""
    api = serve(token="a", tokens=("a",))
    batch = api.run([chat("r1")])
    assert "authorization" not in api.plain.headers
    assert api.results(batch["id"])[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_only_loopback_goes_without_a_token(tmp_path: Path, host: str) -> None:
    with pytest.raises(ServiceError, match="without a token"):
        ServiceConfig(data=tmp_path, host=host)
    assert ServiceConfig(data=tmp_path, host=host, tokens=("t",)).host == host


def test_an_open_service_answers_no_web_page_from_elsewhere(api: Caller) -> None:
    """A page that the user visits can reach loopback through the browser, also under a name of its own."""
    assert api.http.get("/v1/batches", headers={"origin": "https://evil.example"}).status_code == 403
    assert api.http.get("/v1/batches", headers={"origin": "http://["}).status_code == 403
    assert api.http.get("/v1/batches", headers={"host": "evil.example"}).status_code == 403
    assert api.http.get("/v1/batches", headers={"host": "localhost:80"}).status_code == 200


def test_a_presigned_url_has_the_host_the_caller_used(serve: Serve) -> None:
    """Behind a port mapping the service doesn't know its own address; the caller does."""
    api = serve(token="t", tokens=("t",))
    reply = api.http.post("/v1/batches/files", json={"file_name": "a.jsonl"}, headers={"host": "batch.internal:81"})
    assert reply.json()["upload_url"].startswith("http://batch.internal:81/uploads/")
    for odd in ("a/b", "a b", "a@b", '"', "", "x" * 20 + "\u00fc"):
        assert api.http.get("/v1/batches", headers=[(b"host", odd.encode("latin-1"))]).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "name"),
    [
        pytest.param("POST", "/", b"", 405, "method_not_allowed", id="root"),
        pytest.param("GET", "/v1/batches/", b"", 404, "not_found", id="trailing-slash"),
        pytest.param("GET", "/v1/batches/x", b"", 404, "not_found", id="no-id"),
        pytest.param("GET", "/v1/batches/%2e%2e%2f%2e%2e", b"", 404, "not_found", id="path-climbing"),
        pytest.param("GET", "/v1/batches/%00", b"", 404, "not_found", id="nul"),
        pytest.param("GET", "/v1/batches/%ff%fe/results", b"", 404, "not_found", id="not-utf8"),
        pytest.param("GET", "/uploads/..%2f..%2fsecret.jsonl", b"", 404, "not_found", id="upload-climbing"),
        pytest.param("PUT", "/uploads/x.jsonl", b"", 403, "forbidden", id="unsigned-upload"),
        pytest.param("GET", "/downloads/x.jsonl", b"", 403, "forbidden", id="unsigned-download"),
        pytest.param(
            "GET", "/downloads/x.jsonl?signature=a&expires=b&expires=c", b"", 403, "forbidden", id="odd-query"
        ),
        pytest.param("DELETE", "/v1/batches", b"", 405, "method_not_allowed", id="method"),
        pytest.param("POST", "/v1/batches", b"", 400, "bad_request", id="no-body"),
        pytest.param("POST", "/v1/batches", b"{", 400, "bad_request", id="half-json"),
        pytest.param("POST", "/v1/batches", b"[]", 400, "bad_request", id="list"),
        pytest.param("POST", "/v1/batches", b"\xff", 400, "bad_request", id="no-text"),
        pytest.param("POST", "/v1/batches", b"[" * 100_000, 400, "bad_request", id="nesting"),
        pytest.param("POST", "/v1/batches", b'{"file_id": NaN}', 400, "bad_request", id="nan"),
        pytest.param("POST", "/v1/batches", b"x" * 1_000_001, 413, "payload_too_large", id="large"),
        pytest.param("POST", "/v1/batches", b'{"file_id": "\\u0000"}', 404, "not_found", id="nul-in-id"),
        pytest.param("POST", "/v1/batches/files", b'{"file_name": "\\u0000.jsonl"}', 201, None, id="nul-in-name"),
    ],
)
def test_odd_requests_get_documented_errors(
    shared: Caller, method: str, path: str, body: bytes, status: int, name: str | None
) -> None:
    reply = shared.http.request(method, path, content=body)
    assert reply.status_code == status
    if name:
        error = reply.json()
        assert set(error) == {"id", "message", "request_id"}
        assert error["id"] == name
        assert error["message"]
        assert str(UUID(error["request_id"])) == error["request_id"]
        assert reply.headers["x-request-id"] == error["request_id"]


VALUES: list[Any] = [None, True, -1, 1.5, 2**63, "", "x", "\u0000", "x" * 5000, [], [1], {}, {"a": {"b": []}}]


def test_no_value_of_any_field_gives_a_5xx(shared: Caller) -> None:
    file_id = shared.upload([chat("a")])
    fields = [
        "file_id",
        "input_file_id",
        "provider",
        "endpoint",
        "completion_window",
        "request_id",
        "metadata",
        "model",
        "parameters",
        "webhook",
    ]
    bodies = [("/v1/batches", {"file_id": file_id, name: value}) for name in fields for value in VALUES]
    bodies += [
        ("/v1/batches/files", {"file_name": "a.jsonl", name: value})
        for name in ("file_name", "file_size_in_bytes", "content_type")
        for value in VALUES
    ]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda one: shared.http.post(one[0], json=one[1]), bodies))
    for (path, body), reply in zip(bodies, replies, strict=True):
        assert reply.status_code < 500, (path, body, reply.text)


@pytest.mark.parametrize("part", sampled(range(6), 1))
def test_no_line_of_an_input_file_breaks_its_job(shared: Caller, part: int) -> None:
    """Every odd line ends as a validation error or as an error line, and the service lives on."""
    lines: list[Any] = []
    for value in VALUES:
        for name in ("messages", "max_tokens", "temperature", "tools", "stop", "model", "stream"):
            lines.append([chat("a", **{name: value})])
        lines.append([chat("a", messages=[{"role": "user", "content": value}])])
        lines.append([chat("a", messages=[{"role": "user", "content": [value]}])])
        lines.append([{**chat("a"), "custom_id": value}])
        lines.append(
            [{"custom_id": "a", "params": {"model": "c", "max_tokens": 5, "messages": [value], "system": value}}]
        )
        for name in ("input", "instructions", "text", "reasoning", "tools", "tool_choice"):
            lines.append(
                [
                    {
                        "custom_id": "a",
                        "method": "POST",
                        "url": "/v1/responses",
                        "body": {"model": "m", "input": "x", name: value},
                    }
                ]
            )
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(shared.run, lines[part::6]))
    for line, batch in zip(lines[part::6], ended, strict=True):
        assert batch["status"] in {"completed", "failed"}, line
        if batch["status"] == "completed" and batch["request_counts"]["failed"]:
            (error,) = shared.results(batch["id"])[1]
            assert error["error"]["code"] == "invalid_request", (line, error)


def test_garbage_on_the_socket_does_no_harm(api: Caller) -> None:
    parts = urlsplit(str(api.http.base_url))
    for garbage in (
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PUT /uploads/x.jsonl HTTP/1.1\r\n",
        b"",
    ):
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
            connection.sendall(garbage)
    assert api.http.get("/v1/batches").status_code == 200


BODY = b"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\n"
SECOND = b"GET /v1/batches HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(
            BODY + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND, id="cl-and-te"
        ),
        pytest.param(BODY + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n{}  " + SECOND, id="two-lengths"),
        pytest.param(BODY + b"Content-Length: +2\r\n\r\n{}" + SECOND, id="signed-length"),
        pytest.param(BODY + b"Transfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n" + SECOND, id="unknown-te"),
        pytest.param(BODY + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n" + SECOND, id="chunk-with-lf"),
        pytest.param(BODY + b"Content-Length : 2\r\n\r\n{}" + SECOND, id="space-before-colon"),
        pytest.param(BODY + b"X: a\r\n b\r\n\r\n" + SECOND, id="folded"),
        pytest.param(BODY + b"X: a\x00b\r\n\r\n" + SECOND, id="nul"),
        pytest.param(BODY + b"Host: evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", id="two-hosts"),
    ],
)
def test_a_request_that_two_servers_could_read_differently_is_refused(shared: Caller, sent: bytes) -> None:
    """One answer, 400 in the documented shape, and the connection is closed: nothing behind it counts as a request."""
    parts = urlsplit(str(shared.http.base_url))
    with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as connection:
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert orjson.loads(received.partition(b"\r\n\r\n")[2])["id"] == "bad_request"


@pytest.mark.parametrize(
    "url",
    [
        "http://a\u0000b/",
        "http://a b/",
        "http://a\tb/",
        "http://a\\@b/",
        f"http://{'a.' * 2000}/",
        "http://a:0/",
        "file:///x",
    ],
)
def test_a_webhook_url_that_is_none_is_refused(shared: Caller, url: str) -> None:
    reply = shared.http.post("/v1/batches", json={"file_id": "x", "webhook": {"url": url, "secret": "x"}})
    assert reply.status_code == 422
    assert "webhook.url" in reply.json()["message"]
