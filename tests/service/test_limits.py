"""Rate limits: counted for each account, told in the documented headers, refused with 429."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from runner.errors import ServiceError
from runner.service.http.rate_limit import DOCUMENTED, Guesses, Limit, Limiter, parse
from tests.sampling import sampled
from tests.service.conftest import Serve


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_documented_limits() -> None:
    assert parse(DOCUMENTED) == (Limit(250, 60.0), Limit(5000, 3600.0))
    assert parse("off") == ()


@pytest.mark.parametrize("text", ["", "0/minute", "250", "250/fortnight", "250/minute,", "-1/hour"])
def test_limits_that_are_written_wrong_are_refused(text: str) -> None:
    with pytest.raises(ServiceError, match="no rate limit"):
        parse(text)


def test_the_window_slides() -> None:
    """A call counts for exactly as long as the window is wide."""
    clock = Clock()
    limiter = Limiter((Limit(2, 60.0),), clock)
    assert limiter.count("a") == (
        True,
        {"ratelimit-limit": "2", "ratelimit-remaining": "1", "ratelimit-reset": "1000060"},
    )
    clock.now += 30
    assert limiter.count("a")[0]
    allowed, headers = limiter.count("a")
    assert not allowed
    assert headers == {
        "ratelimit-limit": "2",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "1000060",
        "retry-after": "30",
    }
    clock.now += 30
    assert [limiter.count("a")[0] for _ in range(2)] == [True, False]


def test_the_headers_are_about_the_hour_until_the_minute_is_used_up() -> None:
    clock = Clock()
    limiter = Limiter((Limit(3, 60.0), Limit(10, 3600.0)), clock)
    seen = [limiter.count("a") for _ in range(4)]
    assert [headers["ratelimit-limit"] for _, headers in seen] == ["10", "10", "10", "3"]
    assert [allowed for allowed, _ in seen] == [True, True, True, False]
    assert limiter.count("b")[1]["ratelimit-remaining"] == "9"


def test_refused_calls_do_not_count() -> None:
    clock = Clock()
    limiter = Limiter((Limit(1, 60.0),), clock)
    for _ in range(100):
        limiter.count("a")
        clock.now += 1
    assert limiter.count("a")[0] is False
    clock.now += 60
    assert limiter.count("a")[0] is True


def test_each_account_has_its_own_allowance(serve: Serve) -> None:
    """429 in the documented shape, with the documented headers; another token goes on."""
    api = serve(token="one", tokens=("one", "two"), rate_limits=(Limit(3, 60.0),))
    before = time.time()
    replies = [api.http.get("/v1/batches") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 429]
    assert [reply.headers["ratelimit-remaining"] for reply in replies] == ["2", "1", "0", "0"]
    refused = replies[3]
    assert refused.json()["id"] == "too_many_requests"
    assert refused.json()["request_id"] == refused.headers["x-request-id"]
    assert before + 59 < int(refused.headers["ratelimit-reset"]) < before + 75
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    other = api.http.get("/v1/batches", headers={"authorization": "Bearer two"})
    assert (other.status_code, other.headers["ratelimit-remaining"]) == (200, "2")


GUESS = (Limit(3, 60.0),)
LONG = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("method", "path", "how"),
    sampled(
        [
            pytest.param("GET", "/v1/batches", "header", id="api"),
            pytest.param("GET", "/", "header", id="page"),
            pytest.param("GET", "/jobs/x", "header", id="job"),
            pytest.param("GET", "/login", "header", id="login-page"),
            pytest.param("GET", "/page/live.js", "header", id="static"),
            pytest.param("GET", "/nowhere", "header", id="unknown"),
            pytest.param("POST", "/login", "form", id="login"),
        ],
        2,
    ),
)
def test_guesses_count_on_every_route(serve: Serve, method: str, path: str, how: str) -> None:
    """After three wrong tokens of an address even the right one is not looked at; other addresses go on."""
    api = serve(tokens=("right", LONG), guess_limits=GUESS)

    def guess(token: str, origin: str) -> int:
        headers = {"authorization": f"Bearer {token}"} if how == "header" else {}
        data = {"token": token} if how == "form" else None
        with httpx.Client(transport=httpx.HTTPTransport(local_address=origin)) as http:
            return http.request(method, api.http.base_url.join(path), headers=headers, data=data).status_code

    right = guess("right", "127.0.0.1")
    assert right in {200, 303, 404}
    assert 429 not in {guess(f"wrong-{number}", "127.0.0.1") for number in range(3)}
    assert guess("wrong-4", "127.0.0.1") == 429
    assert guess("right", "127.0.0.1") == 429
    assert guess("right", "127.0.0.2") == right
    assert guess(LONG, "127.0.0.1") == right, "a token that can't be guessed is not locked out"


def test_what_is_no_guess_does_not_count(serve: Serve) -> None:
    """Requests without a token, and right tokens, as many as there may be; the answer says when to come again."""
    api = serve(tokens=("right",), guess_limits=GUESS)
    for _ in range(5):
        assert api.http.get("/v1/batches").status_code == 401
        assert api.http.get("/v1/batches", headers={"authorization": "Bearer right"}).status_code == 200
    replies = [api.http.get("/v1/batches", headers={"authorization": f"Bearer {n}"}) for n in range(4)]
    assert [reply.status_code for reply in replies] == [401, 401, 401, 429]
    assert 0 < int(replies[3].headers["retry-after"]) <= 60
    assert api.http.get("/v1/batches").status_code == 401


def test_guesses_are_forgotten_after_the_window_and_beyond_the_table() -> None:
    clock = Clock()
    guesses = Guesses((Limit(2, 60.0), Limit(3, 3600.0)), clock, addresses=3)
    for _ in range(2):
        guesses.count("2001:db8::1")
        clock.now += 10
    assert guesses.pause("2001:db8::ffff") == 40, "one /64 is one address"
    assert guesses.pause("2001:db8:0:1::1") == 0
    clock.now += 40
    assert guesses.pause("2001:db8::1") == 0
    guesses.count("2001:db8::1")
    clock.now += 60
    assert guesses.pause("2001:db8::1") == 3600 - 120
    for number in range(3):
        guesses.count(f"192.0.2.{number}")
    assert guesses.pause("2001:db8::1") == 0, "the table is bounded"


def test_transfers_are_not_counted(serve: Serve) -> None:
    api = serve(rate_limits=(Limit(1, 60.0),))
    intent = api.intent()
    for _ in range(3):
        assert api.plain.put(intent["upload_url"], content=b"x").status_code == 200


@pytest.mark.parametrize(("scale", "refused"), [(1.0, True), (600.0, False)])
def test_the_windows_go_by_the_time_scale(serve: Serve, scale: float, refused: Any) -> None:
    api = serve(rate_limits=(Limit(1, 60.0),), time_scale=scale)
    assert api.http.get("/v1/batches").status_code == 200
    time.sleep(0.15)
    assert (api.http.get("/v1/batches").status_code == 429) is refused
