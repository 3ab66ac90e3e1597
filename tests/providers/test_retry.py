"""What is tried again and when, and what the service asks to wait."""

from __future__ import annotations

from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from runner.errors import (
    ApiError,
    Conflict,
    NotFound,
    RateLimited,
    ServerError,
    Unreachable,
)
from runner.providers.digitalocean import DigitalOcean
from runner.providers.protocol import CreateRequest
from tests.providers.conftest import BATCH, GOOD, LIST, ORDER, SMALL, Clock, Make, refusals
from tests.providers.stub import KEY, Stub
from tests.providers.stub_steps import Also, Cut, Hang, Lost, Reply, Reset, Seen


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
    api = client(stub, limits=replace(SMALL, read_timeout=0.2) if isinstance(step, Hang) else SMALL)
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
    order = CreateRequest(intent.file_id, "openai", "/v1/responses", "rid-1", {"job": "j"})
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
