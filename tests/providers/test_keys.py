"""Where the key goes, and where it does not."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from runner.errors import (
    ApiError,
    TrustError,
)
from runner.jobspec.settings import DigitalOceanProfile, LocalProfile
from runner.providers import open_api
from runner.providers.digitalocean import DigitalOcean
from runner.providers.protocol import CreateRequest
from tests.providers.conftest import BATCH, GOOD, ORDER, Make, told_of
from tests.providers.stub import KEY, Stub
from tests.providers.stub_steps import Reply


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_redirect_is_followed(client: Make, stub: Stub, method: str, status: int) -> None:
    """Not to another host and not on the same one: neither key nor order goes where it was not meant to."""
    with Stub() as elsewhere:
        for target in (f"{elsewhere.url}{BATCH}", "/v1/batches/b-2"):
            stub.on(method, ".*", Reply(status, b"", {"location": target}))
        api = client(stub)
        for _ in range(2):
            with pytest.raises(ApiError, match=str(status)) as caught:
                api.get_batch("b-1") if method == "GET" else api.create_batch(ORDER)
            assert "never follows redirects" in caught.value.hint
        assert elsewhere.seen == []
        assert len(stub.seen) == 2


def test_the_key_goes_to_the_api_and_not_to_storage(stub: Stub, api: DigitalOcean, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"custom_id": "k-1"}\n')
    intent = api.create_file("in.jsonl", path.stat().st_size)
    api.upload(intent, path)
    batch = api.create_batch(CreateRequest(intent.file_id, "openai", "/v1/responses", "rid", {}))
    while not api.get_batch(batch.batch_id).ended:
        pass
    url = api.results(batch.batch_id).output_url
    assert url is not None
    api.download(url, tmp_path / "out.jsonl")
    with_key = {seen.path.split("/")[1] for seen in stub.seen if KEY in str(seen.headers)}
    without = {seen.path.split("/")[1] for seen in stub.seen if KEY not in str(seen.headers)}
    assert (with_key, without) == ({"v1"}, {"upload", "download"})
    assert not any(KEY in seen.path + str(seen.query) + str(seen.body) for seen in stub.seen)


def test_no_cookie_is_kept(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", BATCH, Reply(200, GOOD.body, {"set-cookie": "session=1; Path=/"}), GOOD)
    api.get_batch("b-1")
    api.get_batch("b-1")
    assert all("cookie" not in seen.headers for seen in stub.seen)


def test_the_environment_adds_no_proxy_and_no_password(
    stub: Stub, client: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine neither a proxy is asked nor ~/.netrc."""
    with Stub() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        netrc = Path(os.environ["HOME"], ".netrc")
        netrc.write_text("default login somebody password something\n")
        netrc.chmod(0o600)
        stub.on("GET", BATCH, GOOD)
        client(stub, key="").get_batch("b-1")
        assert proxy.seen == []
    assert "authorization" not in stub.seen[0].headers


@pytest.mark.parametrize("key", ["two words", "line\nend", "kéy", "tab\t", "\x00"])
def test_a_key_that_is_none_is_not_shown(key: str) -> None:
    with pytest.raises(TrustError) as caught:
        DigitalOcean("http://127.0.0.1:1", key)
    assert key not in told_of(caught.value)


@pytest.mark.parametrize(
    ("url", "trusted", "words"),
    [
        pytest.param("http://inference.do-ai.run", "", "not https", id="its own host, but http"),
        pytest.param("http://gateway.example", "gateway.example", "not https", id="trusted, but http"),
        pytest.param("http://192.168.0.10:8080", "192.168.0.10:8080", "not https", id="a private address, but http"),
        pytest.param("https://evil.example", "", "not one of the provider's own", id="a stranger"),
        pytest.param("https://inference.do-ai.run.evil.example", "", "not one of", id="a name that begins like it"),
        pytest.param("https://inference.do-ai.run@evil.example", "", "without a user", id="a name before the @"),
        pytest.param("https://evil.example\\@inference.do-ai.run", "", "without a user", id="a backslash"),
        pytest.param("https://inference.do-ai.run:8443", "", "not one of", id="its own host, another port"),
        pytest.param("https://sub.gateway.example", "gateway.example", "not one of", id="below a trusted one"),
        pytest.param("https://gateway.example:8443", "gateway.example:9443", "not one of", id="another port than trusted"),
        pytest.param("http://127.0.0.1.evil.example", "", "not https", id="like loopback"),
        pytest.param("http://2130706433", "", "not https", id="loopback as a number"),
        pytest.param("ftp://127.0.0.1", "", "http", id="another scheme"),
    ],
)  # fmt: skip
def test_where_the_key_may_not_go(tmp_path: Path, url: str, trusted: str, words: str) -> None:
    """Only the environment says so, never the repository; and plain http stays on this machine whatever it says."""
    profile = DigitalOceanProfile.model_construct(kind="digitalocean", base_url=url, key=None)
    with pytest.raises(TrustError, match=words) as caught:
        open_api(profile, key=KEY, service_folder=tmp_path, environ={"BATCHSPEC_TRUST_HOSTS": trusted})
    assert KEY not in told_of(caught.value)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://inference.do-ai.run", ""),
        ("https://INFERENCE.do-ai.run:443/", ""),
        ("https://gateway.example", "other.example, Gateway.Example."),
        ("https://gateway.example:8443", "gateway.example:8443"),
        ("http://127.0.0.1:8080", ""),
        ("http://localhost:8080", ""),
        ("http://[::1]:8080", ""),
    ],
)
def test_where_the_key_may_go(tmp_path: Path, url: str, trusted: str) -> None:
    profile = DigitalOceanProfile(kind="digitalocean", base_url=url)
    api = open_api(profile, key=KEY, service_folder=tmp_path, environ={"BATCHSPEC_TRUST_HOSTS": trusted})
    assert KEY not in repr(api)
    api.close()


@pytest.mark.parametrize(
    ("url", "trusted", "refused"),
    [
        pytest.param("http://models.example.com/v1", "", "is not https", id="plain http elsewhere"),
        pytest.param("http://10.0.0.7/v1", "10.0.0.7", "is not https", id="plain http, trusted"),
        pytest.param("https://models.example.com/v1", "", "requests are not sent to", id="a host that is not trusted"),
        pytest.param("https://models.example.com/v1", "models.example.com", "", id="a host that is trusted"),
        pytest.param("http://127.0.0.1:9/v1", "", "", id="this machine"),
    ],
)
def test_an_openai_backend_without_a_key_is_asked_where_one_with_a_key_may_be(
    tmp_path: Path, url: str, trusted: str, refused: str
) -> None:
    profile = LocalProfile(kind="local", backend="openai", base_url=url)
    environ = {"BATCHSPEC_TRUST_HOSTS": trusted} if trusted else {}
    with pytest.raises(TrustError, match=refused) if refused else nullcontext():
        open_api(profile, key=None, service_folder=tmp_path, environ=environ)
