"""The page: what it says, who may see it, that nothing users wrote gets the better of it, and a real browser's view."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from tests.service.browser import Browser, open_browser
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
    monkeypatch.setattr("runner.service.page.PAGE", 5)
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
        monkeypatch.setattr("runner.service.sessions.LIFETIME", -1)
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


# In a real browser.


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A tab that starts from nothing, and whose complaints are the test's failure."""
    chromium.call("Network.clearBrowserCookies")
    chromium.complaints.clear()
    yield chromium
    chromium.call("Emulation.setScriptExecutionDisabled", value=False)
    chromium.call("Emulation.setEmulatedMedia", media="", features=[])
    chromium.call("Page.navigate", url="about:blank")
    assert chromium.complaints == []


def address(api: Caller, path: str = "/") -> str:
    return str(api.http.base_url.join(path))


def test_the_page_moves_by_itself(serve: Serve, browser: Browser) -> None:
    """A job's progress and its end appear without anybody loading the page again, and new jobs too."""
    api = serve(answer_delay=0.02, concurrency=8)
    browser.open(address(api))
    assert "No jobs yet" in browser.text()
    browser.run("window.stayed = true")
    batch = api.submit([chat(f"r{index}") for index in range(1600)])
    browser.until("document.querySelector('progress') && document.querySelector('.state.in_progress')")
    browser.until("document.querySelector('.state.completed')")
    assert "1 600 of 1 600" in browser.text()
    assert browser.run("document.querySelector('progress').value") == 1600
    assert browser.run("window.stayed")
    browser.run("document.querySelector('a.id').click()")
    browser.until(f"location.pathname === '/jobs/{batch['id']}' && document.readyState === 'complete'")
    assert "1 600 completed" in browser.text()


def test_without_javascript_everything_is_readable(serve: Serve, browser: Browser) -> None:
    api = serve()
    batch = api.run([chat("a"), chat("b", max_tokens=-1)])
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(address(api))
    assert "1 + 1 failed of 2" in browser.text()
    browser.open(address(api, f"/jobs/{batch['id']}"))
    assert "Last failed requests" in browser.text()


def test_nothing_users_wrote_runs_in_a_browser(serve: Serve, browser: Browser) -> None:
    api = serve()
    for text in NASTY:
        batch = api.run([chat(text), chat(f"{text}!", max_tokens=text)], metadata={"job": text})
        browser.open(address(api, f"/jobs/{batch['id']}"))
        assert "owned" not in browser.run("document.title")
    browser.open(address(api))
    assert browser.run("document.title") == "Batch jobs"
    assert browser.run("document.querySelectorAll('main script, main img, main svg').length") == 0


def test_the_policy_keeps_foreign_scripts_out(serve: Serve, browser: Browser) -> None:
    """Should markup ever get in, it still would not run."""
    browser.open(address(serve()))
    inject = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">')"
    browser.run(inject)
    script = "s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s)"
    browser.run(f"{{ let {script} }}")
    browser.run("new Promise(resolve => setTimeout(resolve, 200))")
    assert browser.run("window.owned === undefined")
    assert any("Content Security Policy" in text for text in browser.complaints)
    browser.complaints.clear()


def test_signing_in_and_out_by_hand(serve: Serve, browser: Browser) -> None:
    api = serve(token="the-token", tokens=("the-token",))
    api.run([chat("a")])
    browser.open(address(api))
    browser.until("location.pathname === '/login' && document.querySelector('#token')")
    fill = "document.querySelector('#token').value = '{}'; document.querySelector('form.login button').click()"
    browser.run(fill.format("wrong"))
    browser.until("document.querySelector('[role=alert]')")
    browser.run(fill.format("the-token"))
    browser.until("location.pathname === '/' && document.querySelector('.state.completed')")
    (cookie,) = browser.call("Network.getCookies")["cookies"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Strict", False)
    assert "the-token" not in cookie["value"]
    assert browser.run("document.cookie") == ""
    browser.run("document.querySelector('header button').click()")
    browser.until("location.pathname === '/login'")
    assert browser.call("Network.getCookies")["cookies"] == []
    # The wrong token's 401 is what browsers report as a failed load.
    assert all("401" in text for text in browser.complaints), browser.complaints
    browser.complaints.clear()


def test_it_says_so_when_the_service_has_gone(serve: Serve, browser: Browser) -> None:
    api = serve()
    browser.open(address(api))
    assert browser.run("document.getElementById('stale').hidden")
    api.stop()
    browser.until("!document.getElementById('stale').hidden")
    assert all("ERR_CONNECTION_REFUSED" in text for text in browser.complaints)
    browser.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_in_dark(serve: Serve, browser: Browser, scheme: str) -> None:
    """Every text has the contrast that WCAG asks for, 4.5 to 1, on what lies behind it; nothing sticks out."""
    api = serve()
    batch = api.run([chat("a"), chat("b", max_tokens=-1)], metadata={"job": "x" * 300})
    api.run(b"nonsense\n")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    for path in ("/", f"/jobs/{batch['id']}"):
        browser.open(address(api, path))
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)")
        assert browser.run(CONTRAST) == []
        assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    png = base64.b64decode(browser.call("Page.captureScreenshot")["data"])
    assert png.startswith(b"\x89PNG")


CONTRAST = r"""
(() => {
  const parts = colour => colour.match(/[\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = parts(colour).slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((parts(colour)[3] ?? 1) > 0) return colour;
    }
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || element.closest("[hidden], noscript, progress")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(element.outerHTML.slice(0, 100));
  }
  return poor;
})()
"""
