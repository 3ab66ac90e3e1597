"""Waiting for hours: what a day's network does to it, how often it asks, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from runner.context import Context
from runner.errors import Unauthorized
from runner.executor.poll import MAX_INTERVAL, Poller, PollTarget
from runner.jobspec.loader import Project
from runner.providers.digitalocean import DigitalOcean
from runner.state.project_paths import ProjectPaths
from tests.providers.dialects import Job
from tests.providers.stub import KEY, Stub
from tests.providers.stub_steps import Reply

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = 3600.0


@dataclass
class World:
    """A held clock: what is to happen at a time happens while somebody sleeps past it."""

    context: Context
    stub: Stub
    time: float = 0.0
    naps: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    agenda: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.time)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds
        while self.agenda and self.agenda[0][0] <= self.time:
            self.agenda.pop(0)[1]()

    def event(self, name: str, **fields: object) -> None:  # noqa: ARG002
        self.events.append(name)

    def progress(self, what: str, done: int, total: int, failed: int = 0, note: str = "") -> None:
        pass

    def wait(self, batches: set[str], deadline: float | None = None) -> bool:
        api = DigitalOcean(self.stub.url, KEY, sleep=self.sleep, now=lambda: self.now().timestamp())
        until = None if deadline is None else NOON + timedelta(seconds=deadline)
        try:
            awaited = PollTarget("hello", "digitalocean", api, frozenset(batches))
            return Poller(self.context).wait_for_any([awaited], until)
        finally:
            api.close()


@pytest.fixture
def world(load: Callable[..., Project]) -> Iterator[World]:
    project = load()
    with ExitStack() as stack:
        stub = stack.enter_context(Stub())
        stub.jobs = [Job(f"b-{n}", "f", {}, [], "in_progress", 1) for n in range(3)]
        context = Context(project, ProjectPaths.for_provider(project.root, ".batchspec", None))
        made = World(context, stub)
        context.now, context.sleep, context.watcher = made.now, made.sleep, made
        yield made


def finish(stub: Stub, number: int) -> Callable[[], None]:
    def end() -> None:
        stub.jobs[number].status = "completed"

    return end


def test_a_network_down_for_an_hour_is_waited_out_and_told_of_once(world: World) -> None:
    """In the middle of a day's wait; after it the batches are found as if nothing had been."""
    port = int(world.stub.url.rsplit(":", 1)[1])
    jobs = world.stub.jobs

    with ExitStack() as stack:

        def back() -> None:
            again = stack.enter_context(Stub(port=port))
            again.jobs = jobs
            world.stub = again

        world.agenda = [
            (10 * HOUR, world.stub.close),
            (11 * HOUR, back),
            (20 * HOUR, finish(world.stub, 1)),
        ]
        assert world.wait({"b-0", "b-1", "b-2"})
    assert world.events == ["service.silent"]
    assert 20 * HOUR <= world.time < 20 * HOUR + 2 * MAX_INTERVAL


def test_each_silence_is_told_of(world: World) -> None:
    trouble = Reply(503, {"id": "unavailable", "message": "back soon"})
    world.stub.on("GET", "/v1/batches", *[trouble] * 15)
    world.agenda = [
        (2 * HOUR, lambda: world.stub.on("GET", "/v1/batches", *[trouble] * 15)),
        (4 * HOUR, finish(world.stub, 0)),
    ]
    assert world.wait({"b-0"})
    assert world.events == ["service.silent", "service.silent"]


@pytest.mark.slow
def test_looks_grow_apart_from_seconds_to_a_minute(world: World) -> None:
    """So that a day of waiting is well inside of what `ratelimit-*` allows, however many batches there are."""
    world.agenda = [(24 * HOUR, finish(world.stub, 0))]
    assert world.wait({"b-0", "b-1", "b-2"})
    assert world.naps[0] < 3
    assert max(world.naps) <= MAX_INTERVAL * 1.1
    assert len(world.naps) == len(world.stub.seen) - 1
    assert len(world.naps) < 24 * 60 * 1.15
    assert len({round(nap, 3) for nap in world.naps}) > 100, "there is jitter"


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_service_asks_for_is_waited_for(world: World, status: int) -> None:
    world.stub.on("GET", "/v1/batches", Reply(status, b"", {"retry-after": "1800"}))
    world.agenda = [(60.0, finish(world.stub, 0))]
    assert world.wait({"b-0"})
    assert world.time >= 1800
    assert len(world.stub.seen) == 2


def test_a_wait_asked_for_that_has_no_end_has_one(world: World) -> None:
    world.stub.on("GET", "/v1/batches", Reply(429, b"", {"retry-after": "999999999"}))
    world.agenda = [(60.0, finish(world.stub, 0))]
    assert world.wait({"b-0"})
    assert world.time < 2 * HOUR


def test_a_deadline_ends_the_wait_and_is_kept_to_the_second(world: World) -> None:
    assert not world.wait({"b-0"}, deadline=100.0)
    assert world.time == pytest.approx(100.0, abs=0.1)


def test_a_deadline_ends_the_wait_in_a_silence(world: World) -> None:
    world.stub.close()
    assert not world.wait({"b-0"}, deadline=600.0)
    assert world.time < 640


def test_a_key_that_is_refused_ends_the_wait(world: World) -> None:
    """That does not mend itself."""
    world.stub.on("GET", "/v1/batches", Reply(401, {"id": "unauthorized", "message": "key revoked"}))
    with pytest.raises(Unauthorized, match="key revoked"):
        world.wait({"b-0"})


def test_one_call_a_look_whatever_there_is_to_wait_for(world: World) -> None:
    world.stub.jobs = [Job(f"b-{n}", "f", {}, [], "in_progress", 1) for n in range(90)]
    world.agenda = [(600.0, finish(world.stub, 89))]
    assert world.wait({f"b-{n}" for n in range(90)})
    assert {seen.path for seen in world.stub.seen} == {"/v1/batches"}
    assert len(world.stub.seen) == len(world.naps) + 1
