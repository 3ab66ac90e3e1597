"""Uploads and downloads: presigned URLs, limits, half uploads, ranges."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.service.conftest import Caller, Serve, chat, jsonl


def test_an_intent_tells_where_to_upload_and_until_when(api: Caller) -> None:
    intent = api.intent(file_size_in_bytes=12)
    assert set(intent) == {"file_id", "upload_url", "expires_at"}
    assert intent["expires_at"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"file_name": "IN.JSONL"}, 201, id="any-case"),
        pytest.param({"file_name": "../../x.jsonl"}, 201, id="a-path-is-only-a-name"),
        pytest.param({"file_name": ".jsonl"}, 422, id="nothing-before"),
        pytest.param({"file_name": "in.json"}, 422, id="other-ending"),
        pytest.param({"file_name": None}, 422, id="null"),
        pytest.param({}, 422, id="missing"),
        pytest.param({"file_name": "a.jsonl", "file_size_in_bytes": "1"}, 422, id="size-type"),
        pytest.param({"file_name": "a.jsonl", "file_size_in_bytes": -1}, 422, id="size-negative"),
        pytest.param({"file_name": "a.jsonl", "file_size_in_bytes": 200_000_000}, 201, id="size-at-limit"),
        pytest.param({"file_name": "a.jsonl", "file_size_in_bytes": 200_000_001}, 413, id="size-over-limit"),
        pytest.param({"file_name": "a.jsonl", "file_size_in_bytes": 2**63}, 413, id="size-absurd"),
        pytest.param({"file_name": "a.jsonl", "content_type": "a\nb"}, 422, id="content-type"),
    ],
)
def test_intents_are_checked(shared: Caller, body: dict[str, object], status: int) -> None:
    assert shared.http.post("/v1/batches/files", json=body).status_code == status


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "application/jsonl"])
def test_any_content_type_goes_where_none_was_signed(api: Caller, content_type: str | None) -> None:
    """The guide's curl sends application/jsonl; other clients send none."""
    headers = {"content-type": content_type} if content_type else {}
    assert api.plain.put(api.intent()["upload_url"], content=b"x", headers=headers).status_code == 200


def test_a_signed_content_type_must_be_sent(api: Caller) -> None:
    url = api.intent(content_type="application/jsonl")["upload_url"]
    assert api.plain.put(url, content=b"x").status_code == 403
    assert api.plain.put(url, content=b"x", headers={"content-type": "text/plain"}).status_code == 403
    unsigned = re.sub(r"&signed=[^&]*", "", url)
    assert api.plain.put(unsigned, content=b"x").status_code == 403
    assert api.plain.put(url, content=b"x", headers={"content-type": "application/jsonl"}).status_code == 200


def test_a_url_is_good_for_its_own_file_method_and_time_only(api: Caller) -> None:
    intent, other = api.intent(), api.intent()
    url = intent["upload_url"]
    api.plain.put(url, content=jsonl([chat("a")]))
    forged = [
        url.replace(intent["file_id"], other["file_id"]),
        re.sub(r"expires=\d+", "expires=99999999999", url),
        re.sub(r"expires=\d+", "expires=soon", url),
        re.sub(r"signature=..", "signature=00", url),
        re.sub(r"signature=.*", "signature=%C3%BC", url),
        url.split("?")[0],
        url.replace("/uploads/", "/downloads/"),
    ]
    for wrong in forged:
        reply = api.plain.put(wrong, content=b"x")
        assert reply.status_code in {403, 405}, wrong
    assert api.plain.get(url).status_code == 405
    assert api.plain.get(url.replace("/uploads/", "/downloads/")).status_code == 403
    assert api.plain.head(url).status_code == 200


def test_an_expired_url_is_403(serve: Serve) -> None:
    api = serve(url_ttl=0.0)
    reply = api.plain.put(api.intent()["upload_url"], content=b"x")
    assert (reply.status_code, reply.json()["id"]) == (403, "forbidden")


def test_head_tells_whether_the_upload_is_there(api: Caller) -> None:
    url = api.intent()["upload_url"]
    assert api.plain.head(url).status_code == 404
    api.plain.put(url, content=b"12345")
    reply = api.plain.head(url)
    assert (reply.status_code, reply.headers["content-length"]) == (200, "5")
    assert reply.headers["etag"] == f'"{hashlib.sha256(b"12345").hexdigest()}"'


def test_a_second_upload_replaces_the_first_until_a_job_is_created(api: Caller, tmp_path: Path) -> None:
    intent = api.intent()
    for lines in ([chat("old")], [chat("new")]):
        assert api.plain.put(intent["upload_url"], content=jsonl(lines)).status_code == 200
    batch = api.create(intent["file_id"]).json()
    assert api.plain.put(intent["upload_url"], content=jsonl([chat("late")])).status_code == 409
    api.ended(batch["id"])
    assert [line["custom_id"] for line in api.results(batch["id"])[0]] == ["new"]
    assert len(list((tmp_path / "data" / "uploads").iterdir())) == 1, "what was replaced is gone"


def test_a_half_upload_never_counts(api: Caller, tmp_path: Path) -> None:
    """A connection that ends before its announced length leaves nothing behind, and the URL stays good."""
    intent = api.intent()
    parts = urlsplit(intent["upload_url"])
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 0)) as connection:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 5000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 3_000_000)
        api.until_true(lambda: any((tmp_path / "data" / "uploads").iterdir()))
    api.until_true(lambda: not any((tmp_path / "data" / "uploads").iterdir()))
    assert api.create(intent["file_id"]).status_code == 400
    assert api.plain.put(intent["upload_url"], content=jsonl([chat("a")])).status_code == 200
    assert api.create(intent["file_id"]).status_code == 201


def test_leftovers_of_a_crash_are_swept_at_the_start(serve: Serve, tmp_path: Path) -> None:
    uploads = tmp_path / "data" / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "0123.part").write_bytes(b"half")
    (uploads / "4567").write_bytes(b"never recorded")
    serve()
    assert list(uploads.iterdir()) == []


def test_the_size_limit_is_413_with_and_without_an_announced_length(serve: Serve, tmp_path: Path) -> None:
    api = serve(max_upload_bytes=1000)
    url = api.intent()["upload_url"]
    assert api.plain.put(url, content=b"x" * 1001).status_code == 413
    assert api.plain.put(url, content=(b"x" * 100 for _ in range(11))).status_code == 413
    assert not any((tmp_path / "data" / "uploads").iterdir())
    assert api.plain.put(url, content=(b"x" * 100 for _ in range(10))).status_code == 200


def test_an_announced_size_must_come(api: Caller) -> None:
    intent = api.intent(file_size_in_bytes=3)
    assert api.plain.put(intent["upload_url"], content=b"1234").status_code == 400
    assert api.create(intent["file_id"]).status_code == 400
    assert api.plain.put(intent["upload_url"], content=b"123").status_code == 200


def test_ranges_and_etags_of_downloads(api: Caller) -> None:
    """A broken download goes on where it stopped, and a range of another file is never mixed in."""
    batch = api.run([chat(f"r{index}") for index in range(20)])
    url = api.http.get(f"/v1/batches/{batch['id']}/results").json()["output_url"]
    whole = api.plain.get(url)
    assert whole.headers["accept-ranges"] == "bytes"
    etag, size = whole.headers["etag"], len(whole.content)

    def ask(**headers: str) -> tuple[int, bytes]:
        reply = api.plain.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return reply.status_code, reply.content

    assert ask(range="bytes=10-19") == (206, whole.content[10:20])
    assert ask(range="bytes=100-") == (206, whole.content[100:])
    assert ask(range="bytes=-7") == (206, whole.content[-7:])
    assert ask(range=f"bytes=0-{size * 9}") == (206, whole.content)
    assert ask(range="bytes=100-", if_range=etag) == (206, whole.content[100:])
    assert ask(range="bytes=100-", if_range='"other"') == (200, whole.content)
    for odd in ("bytes=9-2", "lines=1-2", "bytes=a-b", "bytes=1-2,4-5", "bytes="):
        assert ask(range=odd) == (200, whole.content), odd
    assert ask(range=f"bytes={size}-")[0] == 416
    assert ask(range="bytes=-0")[0] == 416
    assert ask(if_none_match=etag)[0] == 304
    head = api.plain.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(size), b"")
    assert api.plain.get(url).headers["etag"] == etag


def test_download_urls_expire_and_can_be_had_again(serve: Serve) -> None:
    api = serve(url_ttl=1.0)
    batch = api.run([chat("a")])
    url = api.http.get(f"/v1/batches/{batch['id']}/results").json()["output_url"]
    assert api.plain.get(url).status_code == 200
    time.sleep(1.1)
    assert api.plain.get(url).status_code == 403
    fresh = api.http.get(f"/v1/batches/{batch['id']}/results").json()["output_url"]
    assert fresh != url
    assert api.plain.get(fresh).status_code == 200


def test_the_secret_is_private_to_its_owner_and_stays(serve: Serve, tmp_path: Path) -> None:
    """URLs outlive a restart; nobody else of the machine can sign one."""
    api = serve()
    secret = tmp_path / "data" / "secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    before = secret.read_text()
    api.stop()
    serve()
    assert secret.read_text() == before


def test_only_the_owner_can_read_what_is_kept(serve: Serve, tmp_path: Path) -> None:
    """Uploads, results, the database and its journal; also folders that an older version made."""
    for name in ("uploads", "jobs"):
        (tmp_path / "data" / name).mkdir(parents=True, mode=0o755)
    before = os.umask(0o022)
    try:
        api = serve(faults=("shuffle-lines", "fail-requests=@1"))
        batch = api.run([chat("a"), chat("b"), chat("c")])
        assert api.results(batch["id"])[0]
    finally:
        os.umask(before)
    kept = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").rglob("*")}
    names = {path.name for path in kept}
    assert {"service.db", "secret"} <= names
    assert len(names) > 8
    # `lock` and `url` hold nothing private, and other users may have to find them.
    wrong = {path.name: oct(mode) for path, mode in kept.items() if mode & 0o077 and path.name not in {"lock", "url"}}
    assert wrong == {}
