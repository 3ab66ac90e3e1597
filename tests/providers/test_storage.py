"""Uploads and downloads at presigned URLs: streamed, gone on with, and never with a key."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from runner.errors import (
    ApiError,
    Malformed,
    NotFound,
    Rejected,
    StoreError,
    Unauthorized,
    Unreachable,
)
from runner.providers.api import FileIntent
from runner.providers.digitalocean import DigitalOcean
from runner.providers.http import USUAL
from runner.providers.storage import checked
from tests.providers.conftest import SMALL, Clock, has_no_secret, told_of
from tests.providers.stub import KEY, SIGNATURE, Cut, Hang, Raw, Reply, Reset, Step, Stub, Told

Make = Callable[..., DigitalOcean]
UPLOAD = "/upload/.*"
DOWNLOAD = "/download/.*"
ALIKE = b"the same again and again "


@pytest.fixture
def content() -> bytes:
    return b"".join(b'{"custom_id": "k-%d"}\n' % n for n in range(20_000))


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "out.jsonl"


def intent(stub: Stub, clock: Clock, seconds: float | None = 900.0) -> FileIntent:
    expires = None if seconds is None else datetime.fromtimestamp(clock.time + seconds, UTC)
    return FileIntent("file-0", stub.intent_url(), expires)


def xml(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>?signature={SIGNATURE}</Message></Error>".encode()


# --------------------------------------------------------------------------------------------------------------- uploads


def test_an_upload_is_one_put_of_the_file_s_bytes(stub: Stub, api: DigitalOcean, clock: Clock, file: Path) -> None:
    """With its length, as presigned URLs take no chunks, and nothing that would break the signature."""
    moved = Told()
    api.upload(intent(stub, clock), file, moved)
    [seen] = stub.seen
    assert seen.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert seen.headers["content-length"] == str(file.stat().st_size)
    assert seen.headers["content-type"] == "application/octet-stream"
    assert "transfer-encoding" not in seen.headers
    assert "authorization" not in seen.headers
    assert sum(moved) == file.stat().st_size
    assert len(moved) > 1


def test_an_empty_file(stub: Stub, api: DigitalOcean, clock: Clock, file: Path) -> None:
    file.write_bytes(b"")
    api.upload(intent(stub, clock), file)
    assert stub.seen[0].headers["content-length"] == "0"


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(Reset(), id="reset at the start"),
        pytest.param(Reset(after=100_000), id="reset in the middle"),
        pytest.param(Raw(b""), id="closed"),
        pytest.param(Reply(500, xml("InternalError")), id="500"),
        pytest.param(Reply(503, xml("SlowDown")), id="503"),
        pytest.param(Reply(400, xml("RequestTimeout")), id="a timeout as 400"),
        pytest.param(Reply(400, xml("IncompleteBody")), id="a broken body as 400"),
        pytest.param(Reply(409, xml("OperationAborted")), id="409"),
        pytest.param(Reply(404, b""), id="404"),
    ],
)
def test_a_broken_upload_is_sent_again_to_the_same_url(
    stub: Stub, api: DigitalOcean, clock: Clock, file: Path, step: Step
) -> None:
    """The guide: if the upload fails, retry using the same presigned URL until it expires."""
    stub.on("PUT", UPLOAD, step, step)
    moved = Told()
    api.upload(intent(stub, clock), file, moved)
    assert len(stub.seen) == 3
    assert len({(seen.path, seen.query["signature"]) for seen in stub.seen}) == 1
    assert stub.files["file-0"] is stub.seen[2]
    assert stub.seen[2].digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert sum(moved) == file.stat().st_size
    assert not any("authorization" in seen.headers for seen in stub.seen)


def test_an_upload_that_gets_no_answer_is_sent_again(stub: Stub, client: Make, clock: Clock, file: Path) -> None:
    stub.on("PUT", UPLOAD, Hang())
    client(stub, limits=replace(SMALL, transfer_silence=1.0)).upload(intent(stub, clock), file)
    assert len(stub.seen) >= 2
    assert stub.files["file-0"] is stub.seen[-1]


@pytest.mark.parametrize("seconds", [60.0, None], ids=["said", "not said"])
def test_uploads_that_break_until_the_url_expires_ask_for_a_new_one(
    stub: Stub, api: DigitalOcean, clock: Clock, file: Path, seconds: float | None
) -> None:
    """Unauthorized is what a new file intent follows. Where the service does not say when, ten minutes."""
    begin = clock.time
    stub.on("PUT", UPLOAD, *[Reset()] * 200)
    with pytest.raises(Unauthorized, match="expired") as caught:
        api.upload(intent(stub, clock, seconds), file)
    assert has_no_secret(caught.value)
    assert clock.time - begin <= (seconds or 600.0)
    assert len(stub.seen) > 5


def test_a_clock_that_is_wrong_does_not_stop_an_upload(stub: Stub, api: DigitalOcean, clock: Clock, file: Path) -> None:
    """An hour ahead, every URL looks expired; a few tries are made all the same."""
    stub.on("PUT", UPLOAD, *[Reset()] * 4)
    api.upload(intent(stub, clock, -3600.0), file)
    assert len(stub.seen) == 5


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply(403, xml("AccessDenied")), Unauthorized, id="expired"),
        pytest.param(Reply(403, xml("SignatureDoesNotMatch")), Unauthorized, id="mismatch"),
        pytest.param(Reply(400, xml("ExpiredToken")), Unauthorized, id="expired, as 400"),
        pytest.param(Reply(401, b""), Unauthorized, id="401"),
        pytest.param(Reply(413, b""), Rejected, id="too large"),
        pytest.param(Reply(400, xml("EntityTooLarge")), Rejected, id="too large, as 400"),
        pytest.param(Reply(307, b"", {"location": "https://elsewhere.example/?signature=x"}), ApiError, id="redirect"),
    ],
)
@pytest.mark.parametrize("early", [False, True], ids=["at the end", "before the body"])
def test_what_trying_again_can_not_mend(
    stub: Stub, api: DigitalOcean, clock: Clock, file: Path, reply: Reply, kind: type[ApiError], early: bool
) -> None:
    """Expired asks for a new intent, too large is for a person; no redirect is followed."""
    stub.on("PUT", UPLOAD, replace(reply, early=early))
    with pytest.raises(kind) as caught:
        api.upload(intent(stub, clock), file)
    assert len(stub.seen) == 1
    assert clock.naps == []
    assert has_no_secret(caught.value)
    assert "file-0" not in caught.value.message


def test_a_refusal_that_does_not_pass_is_given_up(stub: Stub, api: DigitalOcean, clock: Clock, file: Path) -> None:
    stub.on("PUT", UPLOAD, *[Reply(404, xml("NoSuchBucket"))] * 9)
    with pytest.raises(NotFound, match="NoSuchBucket"):
        api.upload(intent(stub, clock), file)
    assert len(stub.seen) == 5


def test_a_file_that_is_not_there(stub: Stub, api: DigitalOcean, clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.jsonl can't be read: No such file"):
        api.upload(intent(stub, clock), tmp_path / "none.jsonl")
    assert stub.seen == []


@pytest.mark.parametrize("change", [b"more\n", None], ids=["longer", "shorter"])
def test_a_file_that_changes_meanwhile(
    stub: Stub, api: DigitalOcean, clock: Clock, file: Path, change: bytes | None
) -> None:
    """What was announced and what came would differ; nothing of it may count as uploaded."""

    def meddle(count: int, expected: int) -> None:
        with file.open("r+b") as written:
            if change is None:
                written.truncate(10)
            else:
                written.seek(0, 2)
                written.write(change)

    file.write_bytes(file.read_bytes() * 8)
    with pytest.raises(StoreError, match="changed while it was uploaded"):
        api.upload(intent(stub, clock), file, meddle)


def test_an_upload_holds_no_file_in_memory(stub: Stub, clock: Clock, client: Make, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as large:
        for _ in range(48):
            large.write(b"x" * 1_000_000)
    api = client(stub, limits=USUAL)
    assert peak(lambda: api.upload(intent(stub, clock), path)) < 12_000_000
    assert stub.seen[0].size == 48_000_000


def peak(call: Callable[[], object]) -> int:
    """The most bytes that Python held at once during a call, the stub's part included (it keeps 4 MB)."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# -------------------------------------------------------------------------------------------------------------- downloads


def test_a_download_is_the_file_s_bytes(stub: Stub, api: DigitalOcean, content: bytes, target: Path) -> None:
    moved = Told()
    api.download(stub.blob("a", content), target, moved)
    assert target.read_bytes() == content
    assert sum(moved) == moved.expected == len(content)
    assert "authorization" not in stub.seen[0].headers
    assert list(target.parent.iterdir()) == [target]


def test_an_empty_download(stub: Stub, api: DigitalOcean, target: Path) -> None:
    api.download(stub.blob("a", b""), target)
    assert target.read_bytes() == b""


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_a_download_goes_on_where_it_broke(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path, reset: bool
) -> None:
    """By Range, and If-Range with the ETag, so that two versions are never mixed."""
    stub.on("GET", DOWNLOAD, Cut(300_000, reset), Cut(50_000, reset))
    moved = Told()
    api.download(stub.blob("a", content), target, moved)
    assert target.read_bytes() == content
    first, *others = stub.seen
    assert "range" not in first.headers
    starts = [int(seen.headers["range"].removeprefix("bytes=").removesuffix("-")) for seen in others]
    assert all(early < late for early, late in pairwise([0, *starts]))
    assert {seen.headers["if-range"] for seen in others} == {f'"{hashlib.md5(content).hexdigest()}"'}
    assert min(moved) > 0
    assert sum(moved) == moved.expected == len(content)


def test_more_breaks_than_tries_are_no_matter_while_it_moves(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path
) -> None:
    stub.on("GET", DOWNLOAD, *[Cut(20_000, reset=False)] * 15)
    api.download(stub.blob("a", content), target)
    assert target.read_bytes() == content


def test_a_whole_file_in_place_of_a_range_starts_again(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path
) -> None:
    """A storage may not know ranges: 200 is the file from its beginning."""
    stub.ranges = False
    stub.on("GET", DOWNLOAD, Cut(300_000, reset=False))
    moved = Told()
    api.download(stub.blob("a", content), target, moved)
    assert target.read_bytes() == content
    assert min(moved) < 0
    assert sum(moved) == moved.expected == len(content)


def test_a_file_that_changed_in_between_starts_again(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path
) -> None:
    stub.on("GET", DOWNLOAD, Cut(300_000, reset=False))
    url = stub.blob("a", content)

    def change(count: int, expected: int) -> None:
        stub.blob("a", content[::-1])

    api.download(url, target, change)
    assert target.read_bytes() == content[::-1]


@pytest.mark.parametrize("etag", ["", 'W/"weak"', "bare"], ids=["none", "weak", "unquoted"])
def test_without_a_strong_etag_it_starts_again(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path, etag: str
) -> None:
    """Nothing vouches that the rest is of the same file."""
    stub.blob_headers = {"etag": etag}
    stub.on("GET", DOWNLOAD, Cut(300_000, reset=False))
    api.download(stub.blob("a", content), target)
    assert target.read_bytes() == content
    assert all("range" not in seen.headers for seen in stub.seen)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(206, b"xxxx", {"content-range": "bytes 7-10/11"}), id="another start"),
        pytest.param(Reply(206, b"xxxx"), id="no range said"),
        pytest.param(Reply(206, b"xxxx", {"content-range": "bytes 300000-300003/300004"}), id="another length"),
        pytest.param(Reply(416, b""), id="no such range"),
        pytest.param(Reply(206, b"xxxx", {"content-range": "lines 1-2/3"}), id="another unit"),
    ],
)
def test_a_range_that_does_not_fit_starts_again(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path, reply: Reply
) -> None:
    stub.on("GET", DOWNLOAD, Cut(300_000, reset=False), reply)
    api.download(stub.blob("a", content), target)
    assert target.read_bytes() == content


def test_a_range_in_pieces_is_put_together(stub: Stub, api: DigitalOcean, content: bytes, target: Path) -> None:
    """A storage may give less than was asked for and say so."""
    size = len(content)
    told = f"bytes 300000-300099/{size}"
    stub.on("GET", DOWNLOAD, Cut(300_000, reset=False), Reply(206, content[300_000:300_100], {"content-range": told}))
    api.download(stub.blob("a", content), target)
    assert target.read_bytes() == content
    assert stub.seen[2].headers["range"] == "bytes=300100-"


@pytest.mark.parametrize("status", [204, 206])
def test_what_is_no_whole_file_is_none(stub: Stub, api: DigitalOcean, target: Path, status: int) -> None:
    """Taken for the file, an answer without content would be a batch without its answers."""
    stub.on("GET", DOWNLOAD, Reply(status, b""))
    with pytest.raises(Malformed, match=str(status)):
        api.download(stub.blob("a", b"x"), target)
    assert not target.exists()


def test_a_truncated_download_is_no_download(stub: Stub, api: DigitalOcean, content: bytes, target: Path) -> None:
    """What stood there stays, and nothing is left beside it."""
    target.write_bytes(b"before")
    stub.blob_headers = {"etag": ""}
    stub.on("GET", DOWNLOAD, *[Cut(1000, reset=False)] * 99)
    with pytest.raises(Unreachable):
        api.download(stub.blob("a", content), target)
    assert len(stub.seen) == 5
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


def test_a_packed_file_is_unpacked(stub: Stub, api: DigitalOcean, content: bytes, target: Path) -> None:
    stub.blob_headers = {"content-encoding": "gzip"}
    api.download(stub.blob("a", gzip.compress(content)), target)
    assert target.read_bytes() == content


def test_a_packed_file_of_several_parts(stub: Stub, api: DigitalOcean, target: Path) -> None:
    stub.blob_headers = {"content-encoding": "gzip"}
    api.download(stub.blob("a", gzip.compress(b"one\n") + gzip.compress(b"two\n")), target)
    assert target.read_bytes() == b"one\ntwo\n"


def test_a_packed_file_that_broke_is_fetched_from_the_beginning(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path
) -> None:
    """Offsets on disk are not those on the wire."""
    stub.blob_headers = {"content-encoding": "gzip"}
    stub.on("GET", DOWNLOAD, Cut(20_000, reset=False))
    api.download(stub.blob("a", gzip.compress(content)), target)
    assert target.read_bytes() == content
    assert all("range" not in seen.headers for seen in stub.seen)


def test_a_packed_file_without_its_end(stub: Stub, api: DigitalOcean, content: bytes, target: Path) -> None:
    """The connection ends as it should, so only the packing shows that something is missing."""
    stub.blob_headers = {"content-encoding": "gzip"}
    with pytest.raises(Unreachable, match="broke off"):
        api.download(stub.blob("a", gzip.compress(content)[:-9]), target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", b"not packed at all"), ("br", b"x"), ("gzip, gzip", b"x"), ("zstd", b"x")]
)
def test_packed_in_a_way_that_was_not_asked_for(
    stub: Stub, api: DigitalOcean, target: Path, encoding: str, body: bytes
) -> None:
    stub.blob_headers = {"content-encoding": encoding}
    with pytest.raises(Malformed):
        api.download(stub.blob("a", body), target)


def test_a_file_over_the_limit(stub: Stub, api: DigitalOcean, target: Path) -> None:
    """Refused by its announced length, without it while it comes, and packed by what it unpacks to."""
    for name, headers, blob in (
        ("a", {}, b"x" * 1_000_001),
        ("b", {"content-encoding": "gzip"}, gzip.compress(b"x" * 50_000_000)),
    ):
        stub.blob_headers = headers
        with pytest.raises(Malformed, match="longer than 1000000 bytes"):
            api.download(stub.blob(name, blob), target)
    stub.on("GET", DOWNLOAD, Raw(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_001))
    with pytest.raises(Malformed, match="longer than 1000000 bytes"):
        api.download(stub.blob("a", b""), target)
    assert list(target.parent.iterdir()) == []


def test_a_download_holds_no_file_in_memory(stub: Stub, client: Make, tmp_path: Path, target: Path) -> None:
    """Packed two thousandfold neither: it is unpacked in bounded pieces."""
    api = client(stub, limits=USUAL)
    packed = gzip.compress(ALIKE * 3_000_000)
    stub.blob_headers = {"content-encoding": "gzip"}
    url = stub.blob("a", packed)
    assert peak(lambda: api.download(url, target)) < 12_000_000
    assert target.stat().st_size == len(ALIKE) * 3_000_000


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(403, xml("AccessDenied")), Unauthorized),
        (Reply(404, xml("NoSuchKey")), NotFound),
        (Reply(410, b""), NotFound),
        (Reply(302, b"", {"location": "/download/b"}), ApiError),
    ],
    ids=["expired", "gone", "gone for good", "redirect"],
)
def test_a_download_that_is_refused(
    stub: Stub, api: DigitalOcean, target: Path, reply: Reply, kind: type[ApiError]
) -> None:
    stub.on("GET", DOWNLOAD, reply)
    with pytest.raises(kind) as caught:
        api.download(stub.blob("a", b"x"), target)
    assert has_no_secret(caught.value)
    assert len(stub.seen) == 1


def test_a_download_waits_as_long_as_it_is_asked_to(
    stub: Stub, api: DigitalOcean, clock: Clock, content: bytes, target: Path
) -> None:
    stub.on("GET", DOWNLOAD, Reply(503, xml("SlowDown"), {"retry-after": "11"}))
    api.download(stub.blob("a", content), target)
    assert clock.naps == [11.0]


def test_a_download_s_url_that_expires_in_the_middle(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path
) -> None:
    stub.on("GET", DOWNLOAD, Cut(1000), Reply(403, xml("AccessDenied")))
    with pytest.raises(Unauthorized):
        api.download(stub.blob("a", content), target)
    assert list(target.parent.iterdir()) == []


def test_a_download_goes_on_at_a_fresh_url_where_the_first_has_expired(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path
) -> None:
    """By range, from where it broke: a large file over a bad line takes longer than an address is good for."""
    refused = Reply(403, xml("AccessDenied"))
    stub.on("GET", DOWNLOAD, Cut(1000), refused, Cut(2000), refused)
    asked: list[int] = []

    def renew() -> str:
        asked.append(1)
        return stub.blob("a", content)

    api.download(stub.blob("a", content), target, renew=renew)
    assert target.read_bytes() == content
    assert len(asked) == 2
    assert [seen.headers.get("range") for seen in stub.seen[2::2]] == ["bytes=1000-", "bytes=3000-"]


def test_fresh_urls_that_are_no_better_are_given_up(stub: Stub, api: DigitalOcean, target: Path) -> None:
    stub.on("GET", DOWNLOAD, *[Reply(403, xml("AccessDenied"))] * 100)
    with pytest.raises(Unauthorized):
        api.download(stub.blob("a", b"x"), target, renew=lambda: stub.blob("a", b"x"))
    assert len(stub.seen) == 3


def test_a_place_that_can_not_be_written(stub: Stub, api: DigitalOcean, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't be written: No such file"):
        api.download(stub.blob("a", b"x"), tmp_path / "none" / "out.jsonl")
    assert stub.seen == []


# ------------------------------------------------------------------------------------------------------------------ URLs


@pytest.mark.parametrize(
    "url",
    [
        "https://spaces.example/b/k?X-Amz-Signature=abc",
        "https://10.0.0.7:9000/b/k",
        "https://[2001:db8::1]/b",
    ],
)
def test_presigned_urls_that_are_good(url: str) -> None:
    """Also in a private network: a gateway and its storage may live there."""
    assert checked(url, local=False).scheme == "https"


@pytest.mark.parametrize(
    "url",
    [
        "http://spaces.example/b?sig=abc",
        "http://10.0.0.7:9000/b?sig=abc",
        "http://127.0.0.1:80/b?sig=abc",
        "https://127.0.0.1/b?sig=abc",
        "https://localhost/b?sig=abc",
        "https://localhost./b?sig=abc",
        "https://storage.localhost/b?sig=abc",
        "https://[::1]/b?sig=abc",
        "https://[::ffff:127.0.0.1]/b?sig=abc",
        "https://169.254.169.254/latest/meta-data?sig=abc",
        "https://[::ffff:169.254.169.254]/b?sig=abc",
        "https://[fe80::1]/b?sig=abc",
        "https://0.0.0.0/b?sig=abc",
        "https://2130706433/b?sig=abc",
        "https://0x7f.1/b?sig=abc",
        "https://user:pass@spaces.example/b?sig=abc",
        "ftp://spaces.example/b?sig=abc",
        "file:///etc/passwd?sig=abc",
        "//spaces.example/b?sig=abc",
        "spaces.example/b?sig=abc",
        "https://?sig=abc",
        "",
        "https://" + "x" * 20_000 + "?sig=abc",
        "https://spaces.example/b?sig=abc\r\nX-Evil: 1",
    ],
)
def test_presigned_urls_that_are_refused(url: str) -> None:
    """A service elsewhere can lead neither prompts nor requests to this machine, nor anything over plain http."""
    with pytest.raises(Malformed) as caught:
        checked(url, local=False)
    assert "abc" not in told_of(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/b", "http://localhost:80/b", "http://[::1]:80/b"])
def test_a_service_on_this_machine_may_have_its_storage_here(url: str) -> None:
    assert checked(url, local=True).scheme == "http"


def test_a_service_on_this_machine_may_not_lead_elsewhere_over_http() -> None:
    with pytest.raises(Malformed, match="without https"):
        checked("http://spaces.example/b", local=True)


def test_no_storage_knows_a_key(stub: Stub) -> None:
    """Not by any attribute, so that no mistake can send it."""
    api = DigitalOcean(stub.url, KEY)
    assert KEY not in str(vars(api._storage))
    api.close()


def test_a_log_shows_no_presigned_query(
    stub: Stub, api: DigitalOcean, content: bytes, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """httpx logs each request's URL at INFO."""
    with caplog.at_level("DEBUG"):
        api.download(stub.blob("a", content), target)
    assert "/download/a" in caplog.text
    assert SIGNATURE not in caplog.text


def test_a_log_of_a_retry_shows_no_secret(
    stub: Stub, api: DigitalOcean, clock: Clock, file: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    stub.on("PUT", UPLOAD, Reset(), Reply(503, xml("SlowDown")))
    api.upload(intent(stub, clock), file)
    shown = caplog.text + "".join(capsys.readouterr())
    assert SIGNATURE not in shown
    assert KEY not in shown


def test_transfers_run_beside_each_other(stub: Stub, api: DigitalOcean, content: bytes, tmp_path: Path) -> None:
    """Threads share a provider."""
    from concurrent.futures import ThreadPoolExecutor

    url = stub.blob("a", content)
    stub.on("GET", DOWNLOAD, *[Cut(1000 * n, reset=False) for n in range(6)])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: api.download(url, tmp_path / f"{n}.out"), range(8)))
    assert {(tmp_path / f"{n}.out").read_bytes() for n in range(8)} == {content}


def test_what_killed_processes_left_is_removed(stub: Stub, api: DigitalOcean, content: bytes, target: Path) -> None:
    import os

    old, young = (target.with_name(f".out.jsonl.{name}.part") for name in ("0000", "1111"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    api.download(stub.blob("a", content), target)
    assert not old.exists()
    assert young.exists()
