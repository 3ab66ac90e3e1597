"""Downloads from presigned URLs: streamed, gone on with where they broke, and whole or none."""

from __future__ import annotations

import gzip
import hashlib
from itertools import pairwise
from pathlib import Path

import pytest

from runner.errors import (
    ApiError,
    Malformed,
    NotFound,
    StoreError,
    Unauthorized,
    Unreachable,
)
from runner.providers.digitalocean import DigitalOcean
from runner.providers.http import USUAL
from tests.providers.conftest import ALIKE, DOWNLOAD, Clock, Make, has_no_secret, peak, xml
from tests.providers.stub import Stub, Told
from tests.providers.stub_steps import Cut, Raw, Reply


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
    with pytest.raises(Unreachable, match="is incomplete"):
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
    with pytest.raises(StoreError, match=r"cannot write .*: No such file"):
        api.download(stub.blob("a", b"x"), tmp_path / "none" / "out.jsonl")
    assert stub.seen == []
