"""Rate limits: counted for each account, told in the documented headers, refused with 429."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runner.errors import ServiceError
from runner.service.limits import DOCUMENTED, Limit, Limiter, parse
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
    assert limiter.take("a") == (
        True,
        {"ratelimit-limit": "2", "ratelimit-remaining": "1", "ratelimit-reset": "1000060"},
    )
    clock.now += 30
    assert limiter.take("a")[0]
    allowed, headers = limiter.take("a")
    assert not allowed
    assert headers == {
        "ratelimit-limit": "2",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "1000060",
        "retry-after": "30",
    }
    clock.now += 30
    assert [limiter.take("a")[0] for _ in range(2)] == [True, False]


def test_the_headers_are_about_the_hour_until_the_minute_is_used_up() -> None:
    clock = Clock()
    limiter = Limiter((Limit(3, 60.0), Limit(10, 3600.0)), clock)
    seen = [limiter.take("a") for _ in range(4)]
    assert [headers["ratelimit-limit"] for _, headers in seen] == ["10", "10", "10", "3"]
    assert [allowed for allowed, _ in seen] == [True, True, True, False]
    assert limiter.take("b")[1]["ratelimit-remaining"] == "9"


def test_refused_calls_do_not_count() -> None:
    clock = Clock()
    limiter = Limiter((Limit(1, 60.0),), clock)
    for _ in range(100):
        limiter.take("a")
        clock.now += 1
    assert limiter.take("a")[0] is False
    clock.now += 60
    assert limiter.take("a")[0] is True


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


def test_wrong_tokens_share_an_allowance(serve: Serve) -> None:
    """Guessing is slow, and does not use up what belongs to those who have a token."""
    api = serve(token="right", tokens=("right",), rate_limits=(Limit(3, 60.0),))
    guesses = [
        api.http.get("/v1/batches", headers={"authorization": f"Bearer guess-{number}"}).status_code
        for number in range(5)
    ]
    assert guesses == [401, 401, 401, 429, 429]
    assert api.http.get("/v1/batches").status_code == 200


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
