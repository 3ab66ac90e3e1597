"""Presigned URLs: which are trusted, and that neither key nor signature shows; transfers beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import (
    Malformed,
)
from runner.providers.digitalocean import DigitalOcean
from runner.providers.presigned import validate_url
from tests.providers.conftest import DOWNLOAD, UPLOAD, Clock, intent, told_of, xml
from tests.providers.stub import KEY, SIGNATURE, Stub
from tests.providers.stub_steps import Cut, Reply, Reset


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
    assert validate_url(url, local=False).scheme == "https"


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
        validate_url(url, local=False)
    assert "abc" not in told_of(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/b", "http://localhost:80/b", "http://[::1]:80/b"])
def test_a_service_on_this_machine_may_have_its_storage_here(url: str) -> None:
    assert validate_url(url, local=True).scheme == "http"


def test_a_service_on_this_machine_may_not_lead_elsewhere_over_http() -> None:
    with pytest.raises(Malformed, match="not https"):
        validate_url("http://spaces.example/b", local=True)


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
