"""TLS: the whole round over https, presigned URLs too, and certificates that can't be used are said."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from runner.errors import ServiceError
from runner.service import BackgroundService, ServiceConfig
from tests.service.certificates import Certificate
from tests.service.conftest import Caller, chat


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secured(certificate: Certificate, tmp_path: Path) -> Iterator[Caller]:
    config = ServiceConfig(data=tmp_path / "data", tls_cert=certificate.cert, tls_key=certificate.key, tokens=("t",))
    with BackgroundService.start(config) as service:
        caller = Caller(service.url, "t", verify=certificate.trust)
        yield caller
        caller.close()


def test_the_whole_round_over_https(secured: Caller) -> None:
    """Presigned URLs are https too, and good for whoever trusts the certificate."""
    assert secured.http.base_url.scheme == "https"
    assert secured.intent()["upload_url"].startswith(str(secured.http.base_url).rstrip("/"))
    batch = secured.run([chat("a"), chat("b")])
    output, errors = secured.results(batch["id"])
    assert (len(output), errors) == (2, [])


def test_the_pages_cookie_goes_over_https_only(secured: Caller) -> None:
    """And is bound to this host: no other may set one of its name."""
    cookie = secured.http.post("/login", data={"token": "t"}).headers["set-cookie"]
    assert cookie.startswith("__Host-")
    assert "Secure" in cookie
    assert "Domain" not in cookie
    assert secured.http.get("/", headers={"authorization": ""}).status_code == 200


def test_who_does_not_trust_the_certificate_sends_nothing(secured: Caller) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(secured.http.base_url.join("/v1/batches"))


def test_plain_http_and_garbage_get_no_answer_and_do_no_harm(secured: Caller) -> None:
    port = secured.http.base_url.port
    assert port
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/v1/batches")
    for garbage in (b"\x16\x03\x01\x00\x05garbage", b"\x00" * 50, b""):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(garbage)
    assert secured.http.get("/v1/batches").status_code == 200


def test_the_key_may_stand_in_the_certificates_file(certificate: Certificate, tmp_path: Path) -> None:
    with BackgroundService.start(ServiceConfig(data=tmp_path, tls_cert=certificate.both)) as service:
        assert httpx.get(f"{service.url}/v1/batches", verify=certificate.trust).status_code == 200


def test_what_is_wrong_with_a_certificate_is_said_before_anything_listens(
    certificate: Certificate, tmp_path: Path
) -> None:
    other = Certificate(tmp_path)
    (tmp_path / "nonsense.pem").write_text("nonsense")
    locked = tmp_path / "locked.pem"
    key = serialization.load_pem_private_key(certificate.key.read_bytes(), None)
    format_ = serialization.PrivateFormat.TraditionalOpenSSL
    locked.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, format_, serialization.BestAvailableEncryption(b"secret"))
    )
    for cert_file, key_file, said in [
        (tmp_path / "missing.pem", None, "missing.pem cannot be read: No such file"),
        (certificate.cert, tmp_path / "missing.pem", "key .*missing.pem cannot be read"),
        (tmp_path / "nonsense.pem", certificate.key, "nonsense.pem"),
        (certificate.cert, None, "in the same file"),
        (certificate.cert, other.key, "is not that of the certificate"),
        (certificate.cert, locked, "locked.pem"),
        (None, certificate.key, "needs its certificate"),
    ]:
        with pytest.raises(ServiceError, match=said):
            BackgroundService.start(ServiceConfig(data=tmp_path / "data", tls_cert=cert_file, tls_key=key_file))


def test_serve_takes_a_certificate_and_curl_its_answers(certificate: Certificate, tmp_path: Path) -> None:
    """As a user would: the URL comes from stdout, `curl --cacert` talks to it."""
    command = [sys.executable, "-m", "runner", "serve", "--data", str(tmp_path / "data")]
    command += ["--tls-cert", str(certificate.cert), "--tls-key", str(certificate.key), "--token", "t"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert url.startswith("https://127.0.0.1:")
        curl = [
            "curl",
            "--silent",
            "--show-error",
            "--cacert",
            str(certificate.authority),
            "-H",
            "Authorization: Bearer t",
        ]
        done = subprocess.run([*curl, f"{url}/v1/batches"], capture_output=True, text=True, check=False)
        running.terminate()
        running.communicate(timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"object":"list"' in done.stdout
    assert running.returncode == 0
