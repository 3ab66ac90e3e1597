"""A person's word on the command line releases what stands failed when it is given, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.executor.observe import Word
from runner.service import BackgroundService, ServiceConfig
from tests.executor.conftest import Team
from tests.executor.scenes import TOKEN

Make = Callable[..., Team]
AGAIN = Word(retry_failed=frozenset({"job"}))


@pytest.fixture
def failing(team: Make, tmp_path: Path) -> Iterator[Team]:
    """A job whose requests fail for a reason that lasts, at a service of its own."""
    config = ServiceConfig(tmp_path / "failing", tokens=(TOKEN,), faults=("fail-requests=100%:content_policy",))
    with BackgroundService.start(config) as service:
        made = team()
        profile = {"kind": "digitalocean", "base_url": service.url, "key": {"env": "BATCHSPEC_TEST_KEY"}}
        made.url = service.url
        made.write(
            "batchspec.yaml", json.dumps({"version": 1, "project": made.root.name, "providers": {"test": profile}})
        )
        yield made


@pytest.mark.parametrize("rounds", [1, 3])
def test_failed_requests_are_asked_again_once_for_each_time_it_is_said(failing: Team, rounds: int) -> None:
    failing.spec("job", f"retry: {{rounds: {rounds}}}")
    [outcome] = failing.apply()
    assert (outcome.end, outcome.submitted, len(failing.remote())) == ("failed", 3, 1)
    for number in (2, 3):
        [outcome] = failing.apply(AGAIN)
        assert (outcome.end, outcome.submitted, len(failing.remote())) == ("failed", 3, number)
    [outcome] = failing.apply()
    assert (outcome.end, outcome.submitted, len(failing.remote())) == ("failed", 0, 3)


def test_what_waits_for_room_asks_nothing_twice(failing: Team) -> None:
    failing.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
    failing.apply()
    assert len(failing.remote()) == 3
    failing.apply(AGAIN)
    assert len(failing.remote()) == 6
