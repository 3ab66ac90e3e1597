"""Calls to the API: where the key goes, what is retried and when, and what each trouble becomes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from runner.errors import (
    ApiError,
    Conflict,
    Malformed,
    NotFound,
    NotReady,
    ProviderError,
    RateLimited,
    Rejected,
    ServerError,
    TrustError,
    Unauthorized,
    Unreachable,
)
from runner.providers import open_api
from runner.providers.api import Order
from runner.providers.digitalocean import DigitalOcean
from runner.spec.settings import DigitalOceanProfile
from tests.providers.conftest import SMALL, Clock, has_no_secret, told_of
from tests.providers.stub import KEY, Also, Cut, Hang, Lost, Raw, Reply, Reset, Seen, Stub

BATCH = "/v1/batches/b-1"
LIST = "/v1/batches"
ORDER = Order("file-1", "openai", "/v1/responses", "rid-1", {"job": "j"})
GOOD = Reply(200, {"id": "b-1", "status": "queued"})
Make = Callable[..., DigitalOcean]


def refusals(count: int, status: int = 503, **headers: str) -> list[Reply]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [Reply(status, {"id": "trouble", "message": "told so"}, named)] * count


# ------------------------------------------------------------------------------------------- what each trouble becomes


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected), (401, Unauthorized), (402, ApiError), (403, Unauthorized), (404, NotFound), (405, ApiError),
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
    api = client(stub, limits=replace(SMALL, silence=0.2) if isinstance(step, Hang) else SMALL)
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
    with pytest.raises(Unreachable, match="can't be understood"):
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
    order = Order("file-1", "openai", "/v1/responses", "rid-1", {}, ("https://h", "whsec-123"))
    with pytest.raises(Rejected) as caught:
        api.create_batch(order)
    text = told_of(caught.value)
    assert not any(secret in text for secret in (KEY, "whsec-123", "abc"))


# ---------------------------------------------------------------------------------------------------- where the key goes


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
            assert "redirects are never followed" in caught.value.hint
        assert elsewhere.seen == []
        assert len(stub.seen) == 2


def test_the_key_goes_to_the_api_and_not_to_storage(stub: Stub, api: DigitalOcean, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"custom_id": "k-1"}\n')
    intent = api.create_file("in.jsonl", path.stat().st_size)
    api.upload(intent, path)
    batch = api.create_batch(Order(intent.file_id, "openai", "/v1/responses", "rid", {}))
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


# -------------------------------------------------------------------------------------------------- what is tried again


def test_a_read_is_tried_five_times(stub: Stub, api: DigitalOcean, clock: Clock) -> None:
    """Waits double and are cut at random; with the least of chance they are a half."""
    stub.on("GET", BATCH, *refusals(5), GOOD)
    with pytest.raises(ServerError):
        api.get_batch("b-1")
    assert clock.naps == [0.25, 0.5, 1.0, 2.0]
    assert api.get_batch("b-1").batch_id == "b-1"


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_waits_have_jitter(stub: Stub, client: Make, clock: Clock, chance: float) -> None:
    stub.on("GET", BATCH, Reset(), *refusals(2), GOOD)
    client(stub, chance=chance).get_batch("b-1")
    assert clock.naps == pytest.approx([n * (0.5 + 0.5 * chance) for n in (0.5, 1.0, 2.0)])


def test_what_can_not_mend_is_not_tried_again(stub: Stub, api: DigitalOcean, clock: Clock) -> None:
    for status in (400, 401, 403, 404, 409, 412, 422):
        stub.on("GET", BATCH, Reply(status))
        with pytest.raises(ApiError):
            api.get_batch("b-1")
    assert clock.naps == []


@pytest.mark.parametrize("step", [Lost(), Reset(), Hang(), Cut(5), *refusals(1, 500), *refusals(1, 429)], ids=repr)
def test_a_create_is_sent_once(stub: Stub, client: Make, clock: Clock, step: Any) -> None:
    """Whatever happens to its answer: whether it had its effect is for the caller to find out, by the list."""
    api = client(stub, limits=replace(SMALL, silence=0.2) if isinstance(step, Hang) else SMALL)
    stub.files["file-1"] = Seen("PUT", "", {}, {}, b'{"custom_id": "k-1"}\n')
    stub.on("POST", LIST, step)
    with pytest.raises((Unreachable, ServerError, RateLimited)):
        api.create_batch(ORDER)
    assert len(stub.calls("POST", LIST)) == 1
    assert clock.naps == []


def test_a_lost_create_stands_in_the_list(stub: Stub, api: DigitalOcean, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"custom_id": "k-1"}\n')
    intent = api.create_file("in.jsonl", path.stat().st_size)
    api.upload(intent, path)
    order = Order(intent.file_id, "openai", "/v1/responses", "rid-1", {"job": "j"})
    stub.on("POST", LIST, Lost())
    with pytest.raises(Unreachable):
        api.create_batch(order)
    assert [batch.request_id for batch in api.list_batches()] == ["rid-1"]
    assert len(stub.calls("POST", LIST)) == 1


def test_file_intents_are_tried_again(stub: Stub, api: DigitalOcean) -> None:
    """A second one is harmless: nothing is billed for a file."""
    stub.on("POST", "/v1/batches/files", Lost(), *refusals(1))
    assert api.create_file("in.jsonl", 10).file_id == "file-2"


def test_a_cancel_whose_answer_was_lost(stub: Stub, api: DigitalOcean) -> None:
    """The second try meets its own success: a conflict then, and cancelled it is."""
    stub.on("POST", f"{BATCH}/cancel", Reset(), Reply(409, {"id": "conflict", "message": "cancelled"}))
    stub.on("GET", BATCH, Reply(200, {"id": "b-1", "status": "cancelled"}))
    assert api.cancel_batch("b-1").status == "cancelled"


def test_a_cancel_that_was_lost_and_came_too_late(stub: Stub, api: DigitalOcean) -> None:
    stub.on("POST", f"{BATCH}/cancel", Reset(), Reply(409, {"id": "conflict", "message": "completed"}))
    stub.on("GET", BATCH, Reply(200, {"id": "b-1", "status": "completed"}))
    with pytest.raises(Conflict):
        api.cancel_batch("b-1")


def test_a_sleep_that_raises_ends_the_waiting(stub: Stub) -> None:
    """So an interrupted program does not wait for its retries."""

    class Stopped(Exception):
        pass

    def stop(seconds: float) -> None:
        raise Stopped

    stub.on("GET", BATCH, *refusals(5))
    api = DigitalOcean(stub.url, KEY, sleep=stop)
    with pytest.raises(Stopped):
        api.get_batch("b-1")
    api.close()
    assert len(stub.seen) == 1


# ------------------------------------------------------------------------------------------- what the service asks to wait


@pytest.mark.parametrize("status", [429, 503, 500])
def test_retry_after_in_seconds(stub: Stub, client: Make, clock: Clock, status: int) -> None:
    stub.on("GET", BATCH, *refusals(1, status, retry_after="7"), GOOD)
    client(stub).get_batch("b-1")
    assert clock.naps == [7.0]


def test_retry_after_has_jitter_and_is_never_shorter(stub: Stub, client: Make, clock: Clock) -> None:
    stub.on("GET", BATCH, *refusals(1, 429, retry_after="10"), GOOD)
    client(stub, chance=0.5).get_batch("b-1")
    assert clock.naps == [pytest.approx(10.5)]


def test_retry_after_as_a_date(stub: Stub, client: Make, clock: Clock) -> None:
    """By the service's own clock, where it tells it."""
    told = formatdate(1_700_000_030, usegmt=True)
    date = formatdate(1_700_000_000, usegmt=True)
    stub.on("GET", BATCH, *refusals(1, 503, retry_after=told, date=date), GOOD)
    client(stub).get_batch("b-1")
    assert clock.naps == [30.0]


@pytest.mark.parametrize(
    "told", ["0", "", "soon", "-5", "1e9", "9" * 400, formatdate(0, usegmt=True), "Wed, 99 Foo 2026"]
)
def test_an_odd_retry_after_is_no_reason_to_hammer(stub: Stub, client: Make, clock: Clock, told: str) -> None:
    stub.on("GET", BATCH, *refusals(2, 429, retry_after=told), GOOD)
    client(stub).get_batch("b-1")
    assert clock.naps == [0.25, 0.5]


def test_more_than_can_be_waited_for_is_the_callers(stub: Stub, client: Make, clock: Clock) -> None:
    stub.on("GET", BATCH, *refusals(1, 429, retry_after="3600"))
    with pytest.raises(RateLimited) as limited:
        client(stub).get_batch("b-1")
    assert limited.value.retry_after == 3600.0
    stub.on("GET", LIST, *refusals(1, 503, retry_after="3600"))
    with pytest.raises(ServerError) as busy:
        list(client(stub).list_batches())
    assert busy.value.retry_after == 3600.0
    assert clock.naps == []


@pytest.mark.parametrize("reset", [1_900_000_040, 40], ids=["Unix time", "seconds from now"])
def test_429_with_ratelimit_reset(stub: Stub, client: Make, clock: Clock, reset: int) -> None:
    """DigitalOcean tells a time, the IETF's draft seconds."""
    stub.on("GET", BATCH, *refusals(1, 429, ratelimit_reset=str(reset), ratelimit_remaining="0"), GOOD)
    client(stub).get_batch("b-1")
    assert clock.naps == [40.0]


def test_a_limit_that_is_used_up_is_waited_for_beforehand(stub: Stub, client: Make, clock: Clock) -> None:
    """No call is sent that the service has said it would refuse, a create neither."""
    used_up = {"ratelimit-limit": "250", "ratelimit-remaining": "0", "ratelimit-reset": "1900000030"}
    stub.on("GET", BATCH, Also(used_up), Also({"ratelimit-remaining": "249", "ratelimit-reset": "1900000060"}))
    stub.jobs = []
    api = client(stub, chance=0.5)
    with pytest.raises(NotFound):
        api.get_batch("b-1")
    assert clock.naps == []
    with pytest.raises(NotFound):
        api.create_batch(ORDER)
    assert clock.naps == [pytest.approx(31.5)]
    with pytest.raises(NotFound):
        api.get_batch("b-1")
    assert len(clock.naps) == 1


def test_what_one_call_is_told_holds_for_the_next(stub: Stub, client: Make, clock: Clock) -> None:
    """A 429 to one of several transfers holds back the others too."""
    api = client(stub)
    stub.on("POST", LIST, *refusals(1, 429, retry_after="20"))
    with pytest.raises(RateLimited):
        api.create_batch(ORDER)
    assert clock.naps == []
    stub.on("GET", BATCH, GOOD)
    api.get_batch("b-1")
    assert clock.naps == [20.0]


@pytest.mark.parametrize("reset", ["1900003600", "soon", "", "1800000000"])
def test_a_limit_far_away_or_unknown_holds_nothing_back(stub: Stub, client: Make, clock: Clock, reset: str) -> None:
    """Whether it is meant is for the service to say."""
    stub.on("GET", BATCH, Reply(200, GOOD.body, {"ratelimit-remaining": "0", "ratelimit-reset": reset}), GOOD)
    api = client(stub)
    api.get_batch("b-1")
    api.get_batch("b-1")
    assert clock.naps == []


# ------------------------------------------------------------------------------------------------------------- the list


@pytest.mark.parametrize("dialect", ["guide", "openapi", "godo"])
def test_a_list_of_many_pages(client: Make, dialect: str) -> None:
    """Every batch once, with one call for each hundred; no page is asked for before it is needed."""
    with Stub(dialect) as stub:
        stub.add_jobs(250)
        batches = client(stub).list_batches()
        assert next(batches).batch_id == "old-0249"
        assert len(stub.seen) == 1
        assert [batch.batch_id for batch in batches] == [f"old-{n:04}" for n in range(248, -1, -1)]
        assert len(stub.seen) == (3 if stub.dialect.pages else 1)


def page(*numbers: int, **more: Any) -> Reply:
    return Reply(200, {"data": [{"id": f"b-{n}", "status": "queued"} for n in numbers], **more})


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([page(1, has_more=True, last_id="x")] * 99, id="the same cursor again"),
        pytest.param(
            [page(1, has_more=True, last_id=f"x{n % 2}") for n in range(99)], id="two cursors in turn"
        ),
        pytest.param([page(1, has_more=True, last_id=f"x{n}") for n in range(99)], id="the same page, other cursors"),
        pytest.param([page(has_more=True, last_id=f"x{n}") for n in range(99)], id="nothing, for ever"),
    ],
)  # fmt: skip
def test_a_list_that_goes_in_circles(stub: Stub, api: DigitalOcean, pages: list[Reply]) -> None:
    stub.on("GET", LIST, *pages)
    with pytest.raises(Malformed, match="goes in circles"):
        list(api.list_batches())
    assert len(stub.seen) <= 11


def test_a_batch_on_two_pages_comes_once(stub: Stub, api: DigitalOcean) -> None:
    """A batch made between two pages moves the others on."""
    stub.on("GET", LIST, page(3, 2, has_more=True), page(2, 1, has_more=False))
    assert [batch.batch_id for batch in api.list_batches()] == ["b-3", "b-2", "b-1"]


def test_a_service_that_does_not_say_whether_there_is_more(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", LIST, page(2), page(1), page())
    assert [batch.batch_id for batch in api.list_batches()] == ["b-2", "b-1"]


def test_an_empty_page_in_the_middle(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", LIST, page(2, has_more=True), page(has_more=True, last_id="x"), page(1, has_more=False))
    assert [batch.batch_id for batch in api.list_batches()] == ["b-2", "b-1"]


def test_a_page_too_long_is_asked_for_in_parts(stub: Stub, api: DigitalOcean) -> None:
    """A hundred failed batches, each with its reasons, must not make the list unreadable."""
    stub.add_jobs(30)
    for job in stub.jobs:
        job.order = {"metadata": {"reasons": "x" * 20_000}}
    assert len([*api.list_batches()]) == 30
    assert {seen.query["limit"] for seen in stub.seen} == {"100", "20", "4"}


def test_one_batch_too_long(stub: Stub, api: DigitalOcean) -> None:
    stub.on("GET", LIST, *[Reply(200, b" " * 300_000)] * 5)
    with pytest.raises(Malformed, match="longer"):
        list(api.list_batches())


# --------------------------------------------------------------------------------------------------------------- the rest


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
