"""The page in a real browser: it moves by itself, works without scripts, and runs nothing that users wrote."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from tests.service.browser import Browser, open_browser
from tests.service.conftest import Caller, Serve, chat
from tests.service.test_page import NASTY

pytestmark = pytest.mark.slow


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
