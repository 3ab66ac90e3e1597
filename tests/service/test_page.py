"""The page: what it says, who may see it, and that nothing users wrote gets the better of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Caller, Serve, chat
from tests.service.receiver import serve_receiver

NASTY = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "'\"><svg onload=alert(1)>",
    "{{ 7*7 }}{% for x in y %}",
    "\u202eright to left",
    "a" * 5000,
]


class Tags(HTMLParser):
    """Every element and attribute of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def page(api: Caller, path: str = "/") -> str:
    reply = api.http.get(path)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return reply.text.replace("\u202f", " ")


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_jobs_and_what_became_of_them(api: Caller) -> None:
    """States, counts, the last error and the way to the results, newest first."""
    done = api.run([chat(f"r{index}") for index in range(3)], metadata={"job": "nightly-reviews"})
    mixed = api.run([chat("good"), chat("bad", max_tokens=-1)])
    broken = api.run(b"nonsense\n")
    html = page(api)
    assert [html.index(batch["id"]) for batch in (broken, mixed, done)] == sorted(
        html.index(batch["id"]) for batch in (done, mixed, broken)
    )
    text = text_of(html)
    assert "nightly-reviews" in text
    assert "3 of 3" in text
    assert "1 + 1 failed of 2" in text
    assert "invalid_request The token limit must be a whole number" in text
    assert "The line is not JSON" in text
    assert "all 3 completed 2 failed 1" in text
    assert f'href="/jobs/{done["id"]}/output"' in html
    assert f'href="/jobs/{done["id"]}/errors"' not in html
    assert f'href="/jobs/{mixed["id"]}/errors"' in html
    only = page(api, "/?status=failed")
    assert broken["id"] in only
    assert done["id"] not in only


def test_a_job_and_its_log(serve: Serve) -> None:
    """Every step with its time, each attempt of the webhook, why it failed, and which requests did."""
    with serve_receiver(lambda before: 200 if before else 500) as receiver:
        api = serve(webhook_backoff=0.05)
        webhook = {"url": f"{receiver.url}/private-path?key=k", "secret": "hidden-secret"}
        batch = api.run([chat("good"), chat("bad", max_tokens=-1)], webhook=webhook, metadata={"team": "blue"})
        api.until_true(lambda: "delivered" in api.http.get(f"/jobs/{batch['id']}").text)
    html = page(api, f"/jobs/{batch['id']}")
    text = text_of(html)
    for said in (batch["id"], batch["file_id"], batch["request_id"], "team blue", "1 completed, 1 failed , 2 in all"):
        assert said in text
    log = text[text.index("Log") :]
    steps = [
        "created",
        "queued",
        "in progress",
        "finalizing",
        "completed",
        "attempt 1",
        "answered with 500",
        "attempt 2",
    ]
    places = [log.index(step) for step in [*steps, "acknowledged with 200"]]
    assert places == sorted(places)
    assert receiver.url in text
    assert "private-path" not in html
    assert "hidden-secret" not in html
    assert "bad invalid_request The token limit" in text
    failed = api.run([b"nonsense\n", b"more\n"])
    text = text_of(page(api, f"/jobs/{failed['id']}"))
    assert "Why it failed Line Code Message 1 invalid_json_line" in text


def test_download_links_lead_to_the_results_and_do_not_expire(serve: Serve, tmp_path: Path) -> None:
    """The page links to itself, and from there to a fresh URL."""
    api = serve(url_ttl=60)
    batch = api.run([chat("a"), chat("b", max_tokens=-1)])
    for name, custom_id in (("output", "a"), ("errors", "b")):
        reply = api.http.get(f"/jobs/{batch['id']}/{name}")
        assert reply.status_code == 303
        download = api.plain.get(reply.headers["location"])
        assert download.headers["content-disposition"].startswith("attachment")
        assert download.json()["custom_id"] == custom_id
    running = serve(data=tmp_path / "other", answer_delay=60)
    job = running.submit([chat("a")])["id"]
    assert running.http.get(f"/jobs/{job}/output").status_code == 404


def test_many_jobs_come_a_page_at_a_time(api: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.service.dashboard.dashboard.PAGE", 5)
    file_id = api.upload([chat("a")])
    made = [api.create(file_id).json()["id"] for _ in range(12)]
    seen: list[str] = []
    path: str | None = "/"
    while path:
        html = page(api, path)
        seen += re.findall(r'class="id" href="/jobs/([0-9a-f-]{36})"', html)
        older = re.search(r'href="([^"]*)">older', html)
        path = older[1].replace("&amp;", "&") if older else None
    assert seen == made[::-1]


def test_what_is_not_there_is_said_on_a_page(api: Caller) -> None:
    for path in ("/jobs/nonsense", f"/jobs/{'0' * 36}", "/?status=odd", "/?after=x", "/jobs/x/output"):
        reply = api.http.get(path)
        assert (reply.status_code, "Not there" in reply.text) == (404, True), path
    for path in ("/page/../page.py", "/page/%2e%2e/base.html.j2", "/page/nothing.css", "/jobs/"):
        assert api.http.get(path).status_code == 404
    assert api.http.post("/").status_code == 405


def test_every_answer_of_the_page_has_its_security_headers(api: Caller) -> None:
    batch = api.run([chat("a")])
    for path in ("/", f"/jobs/{batch['id']}", "/jobs/x", f"/jobs/{batch['id']}/output"):
        headers = api.http.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "same-origin"
    for name, kind in (("style.css", "text/css"), ("live.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        reply = api.http.get(f"/page/{name}")
        assert reply.headers["content-type"].startswith(kind)
        assert reply.headers["x-content-type-options"] == "nosniff"
        again = api.http.get(f"/page/{name}", headers={"if-none-match": reply.headers["etag"]})
        assert again.status_code == 304


def test_nothing_that_users_wrote_becomes_markup(api: Caller) -> None:
    """Wherever they can write: ids, models, metadata, request ids, lines, and what errors quote of them."""
    usual = Tags(page(api, "/")).tags
    batches = []
    for text in NASTY:
        lines = [chat(text, model=text[:400]), chat(f"{text}!", model=text[:400], max_tokens=text)]
        more = {"metadata": {"job": text, text: text}, "request_id": text[:500], "model": text[:400]}
        batches.append(api.run(lines, **more))
        batches.append(api.run([{"custom_id": text, text: text, "method": text, "url": text, "body": {}}]))
    known = {tag for tag, _ in usual} | {"h2", "dl", "dt", "dd", "ol", "li", "bdi", "code", "small", "tr", "td", "th"}
    known |= {"div", "table", "thead", "tbody", "progress", "time", "span", "p"}
    for path in ("/", *(f"/jobs/{batch['id']}" for batch in batches)):
        html = page(api, path)
        tags = Tags(html).tags
        assert {tag for tag, _ in tags} <= known, path
        assert [attributes.get("src") for tag, attributes in tags if tag == "script"] in ([], ["/page/live.js"])
        for tag, attributes in tags:
            assert not any(name.startswith("on") or name == "style" for name in attributes), (path, tag, attributes)
            assert (attributes.get("href") or "/").startswith("/")
        assert "49" not in text_of(html).replace("2026", "").split()


class TestSigningIn:
    """Where tokens are configured, the page wants one too, and keeps a cookie instead of it."""

    @pytest.fixture
    def closed(self, serve: Serve) -> Caller:
        return serve(token="token-a", tokens=("token-a", "tökén-b"))

    @pytest.fixture
    def visitor(self, closed: Caller) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=closed.http.base_url) as client:
            yield client

    def sign_in(self, visitor: httpx.Client, token: str, **headers: str) -> httpx.Response:
        return visitor.post("/login", data={"token": token}, headers=headers)

    def test_without_it_there_is_a_form_and_nothing_else(self, closed: Caller, visitor: httpx.Client) -> None:
        batch = closed.run([chat("a")])
        for path in ("/", f"/jobs/{batch['id']}", f"/jobs/{batch['id']}/output"):
            reply = visitor.get(path)
            assert (reply.status_code, reply.headers["location"]) == (303, "/login")
        form = visitor.get("/login")
        assert form.status_code == 200
        assert 'type="password"' in form.text
        assert batch["id"] not in form.text
        assert visitor.get("/page/style.css").status_code == 200
        assert visitor.get("/v1/batches").status_code == 401

    def test_with_it_one_sees_the_jobs_of_its_account(self, closed: Caller, visitor: httpx.Client) -> None:
        batch = closed.run([chat("a")])
        reply = self.sign_in(visitor, " token-a\n")
        assert (reply.status_code, reply.headers["location"]) == (303, "/")
        cookie = reply.headers["set-cookie"]
        for attribute in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert attribute in cookie
        assert "token-a" not in cookie
        assert batch["id"] in visitor.get("/").text
        assert visitor.get(f"/jobs/{batch['id']}").status_code == 200
        assert visitor.get(f"/jobs/{batch['id']}/output", follow_redirects=True).json()["custom_id"] == "a"
        assert visitor.get("/login").headers["location"] == "/"
        with httpx.Client(base_url=closed.http.base_url) as other:
            self.sign_in(other, "tökén-b")
            assert batch["id"] not in other.get("/").text
            assert other.get(f"/jobs/{batch['id']}").status_code == 404
            assert other.get(f"/jobs/{batch['id']}/output").status_code == 404

    def test_the_cookie_lets_nobody_use_the_api(self, visitor: httpx.Client) -> None:
        """It stands for the right to look: a form on another site could otherwise submit jobs."""
        self.sign_in(visitor, "token-a")
        assert visitor.get("/v1/batches").status_code == 401
        assert visitor.post("/v1/batches", json={}).status_code == 401

    def test_a_wrong_token_is_said_and_gives_nothing(self, visitor: httpx.Client) -> None:
        for token in ("wrong", "", "token-a2", "\u0000", "x" * 9000):
            reply = self.sign_in(visitor, token)
            assert reply.status_code == 401
            assert "not a token of this service" in reply.text
            assert "set-cookie" not in reply.headers
        assert visitor.post("/login", content=b"\xff" * 100).status_code == 401
        assert self.sign_in(visitor, "x" * 10_001).status_code == 413

    def test_signing_out_forgets(self, visitor: httpx.Client) -> None:
        self.sign_in(visitor, "token-a")
        assert visitor.get("/").status_code == 200
        assert "Sign out" in visitor.get("/").text
        assert visitor.post("/logout").headers["location"] == "/login"
        assert visitor.get("/").status_code == 303

    def test_no_other_site_signs_anybody_in_or_out(self, closed: Caller, visitor: httpx.Client) -> None:
        own = str(closed.http.base_url).rstrip("/")
        assert self.sign_in(visitor, "token-a", origin="https://evil.example").status_code == 403
        assert self.sign_in(visitor, "token-a", origin="null").status_code == 403
        assert self.sign_in(visitor, "token-a", origin="http://[").status_code == 403
        assert self.sign_in(visitor, "token-a", origin=own).status_code == 303
        assert visitor.post("/logout", headers={"origin": "https://evil.example"}).status_code == 403
        # TLS may end before us; the host is the same then.
        assert self.sign_in(visitor, "token-a", origin=own.replace("http:", "https:")).status_code == 303
        assert visitor.get("/").status_code == 200

    def test_a_forged_or_old_cookie_is_none(self, visitor: httpx.Client) -> None:
        self.sign_in(visitor, "token-a")
        ((name, value),) = visitor.cookies.items()
        account, expires, signature = value.split(".")
        late = str(int(expires) + 1)
        forged = [
            f"{account}.{late}.{signature}",
            f"{'0' * 32}.{expires}.{signature}",
            f"{account}.{expires}.{signature[:-1]}",
            f"{account}.{expires}.",
            "...",
            "",
            "ü",
        ]
        visitor.cookies.clear()
        for text in forged:
            headers = [(b"cookie", f"{name}={text}".encode("latin-1"))]
            assert visitor.get("/", headers=headers).status_code == 303, text
        assert visitor.get("/", headers={"cookie": f"{name}={value}"}).status_code == 200

    def test_it_holds_over_a_restart_as_long_as_the_token_does(self, serve: Serve) -> None:
        api = serve(tokens=("a",))
        value = httpx.post(f"{api.http.base_url.join('/login')}", data={"token": "a"}).headers["set-cookie"]
        headers = {"cookie": value.split(";")[0]}
        api.stop()
        api = serve(tokens=("a", "b"))
        assert httpx.get(api.http.base_url.join("/"), headers=headers).status_code == 200
        api.stop()
        api = serve(tokens=("b",))
        assert httpx.get(api.http.base_url.join("/"), headers=headers).status_code == 303

    def test_a_session_ends(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("runner.service.dashboard.sessions.LIFETIME", -1)
        api = serve(tokens=("a",))
        value = httpx.post(api.http.base_url.join("/login"), data={"token": "a"}).headers["set-cookie"]
        assert httpx.get(api.http.base_url.join("/"), headers={"cookie": value.split(";")[0]}).status_code == 303


def test_an_open_service_shows_its_page_to_nobody_from_elsewhere(api: Caller) -> None:
    assert api.http.get("/", headers={"host": "evil.example"}).status_code == 403
    assert api.http.get("/", headers={"origin": "https://evil.example"}).status_code == 403
    assert api.http.get("/login").headers["location"] == "/"
    assert "Sign out" not in page(api)


def test_faults_of_the_api_do_not_befall_the_page(serve: Serve) -> None:
    api = serve(faults=("burst-5xx=100%", "slow=100%:60"))
    assert page(api)
