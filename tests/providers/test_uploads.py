"""Uploads to presigned URLs: streamed, sent again to the same URL, and given a new one where that expires."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import (
    ApiError,
    NotFound,
    Rejected,
    StoreError,
    Unauthorized,
)
from runner.providers.digitalocean import DigitalOcean
from runner.providers.http import USUAL
from tests.providers.conftest import SMALL, UPLOAD, Clock, Make, has_no_secret, intent, peak, xml
from tests.providers.stub import Stub, Told
from tests.providers.stub_steps import Hang, Raw, Reply, Reset, Step


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
    client(stub, limits=replace(SMALL, transfer_timeout=1.0)).upload(intent(stub, clock), file)
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
    with pytest.raises(StoreError, match=r"cannot read .*none\.jsonl: No such file"):
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
    with pytest.raises(StoreError, match="changed during its upload"):
        api.upload(intent(stub, clock), file, meddle)


def test_an_upload_holds_no_file_in_memory(stub: Stub, clock: Clock, client: Make, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    with path.open("wb") as large:
        for _ in range(48):
            large.write(b"x" * 1_000_000)
    api = client(stub, limits=USUAL)
    assert peak(lambda: api.upload(intent(stub, clock), path)) < 12_000_000
    assert stub.seen[0].size == 48_000_000
