"""Jobs, and projects, that ask for the same requests: none takes another's batch for its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.api import open_project
from tests.executor.story import ENVIRON, ROWS, SHARD, Clock, checkout
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Reply, Seen

SHARDS = ROWS // SHARD
MANY = 10_000
NOT_HEARD = Reply(503, {"id": "unavailable", "message": "back soon"})


@pytest.fixture
def stub(request: pytest.FixtureRequest) -> Iterator[Stub]:
    """A service that takes no notice of keys, and tells the metadata of a batch, or nothing but its file."""
    with Stub("openapi" if request.param == "metadata" else "guide") as running:
        running.keys = False

        def keyless(seen: Seen) -> Reply:
            told = running.answer(seen)
            return Reply(told.status, _without_key(told.body), told.headers)

        running.on("GET", "/v1/batches(/[^/]+)?", *[Instead(keyless)] * MANY)
        yield running


def _without_key(told: Any) -> Any:
    if isinstance(told, list):
        return [_without_key(one) for one in told]
    if isinstance(told, dict):
        return {name: _without_key(value) for name, value in told.items() if name != "request_id"}
    return told


@dataclass
class Meanwhile(Clock):
    """A clock on which something else happens during the first long wait."""

    act: Callable[[], object] | None = None

    def sleep(self, seconds: float) -> None:
        act, self.act = (self.act, None) if seconds > 1 else (None, self.act)
        if act is not None:
            act()
        super().sleep(seconds)


def go(root: Path, clock: Clock | None = None) -> dict[str, str]:
    """Apply all jobs; how they ended."""
    clock = clock or Clock()
    with open_project(runner.load(root=root), environ=ENVIRON, jobs=1, now=clock.now) as opened:
        opened.context.sleep = clock.sleep
        found = opened.apply(opened.plan(opened.context.project.jobs))
    return {outcome.address: outcome.end for outcome in found}


def batches(root: Path, name: str) -> set[str]:
    lines = map(json.loads, (root / f"specs/{name}.lock").read_text().splitlines())
    return {line["batch"] for line in lines if "batch" in line}


@pytest.mark.parametrize("stub", ["metadata", "nothing"], indirect=True)
def test_two_jobs_with_the_same_requests(stub: Stub, tmp_path: Path) -> None:
    """The first create of the first job has no answer when the second job's batches show in the list."""
    root = checkout(tmp_path, stub.url)
    spec = (root / "specs/told.yaml").read_text()
    (root / "specs/zwei.yaml").write_text(spec.replace("name: told", "name: zwei").replace("told.jsonl", "zwei.jsonl"))
    stub.on("POST", "/v1/batches", NOT_HEARD)
    assert go(root) == {"told": "succeeded", "zwei": "succeeded"}
    told, zwei = batches(root, "told"), batches(root, "zwei")
    assert (len(told), len(zwei), told & zwei) == (SHARDS, SHARDS, set())
    assert len(stub.jobs) == 2 * SHARDS


@pytest.mark.parametrize("stub", ["metadata"], indirect=True)
def test_two_projects_on_one_account(stub: Stub, tmp_path: Path) -> None:
    """The second project submits while the first waits to see what came of a create."""
    one, two = (checkout(tmp_path / name, stub.url) for name in ("one", "two"))
    settings = two / "batchspec.yaml"
    settings.write_text(settings.read_text().replace("project: faults", "project: other"))
    ends = []
    stub.on("POST", "/v1/batches", NOT_HEARD)
    assert go(one, Meanwhile(act=lambda: ends.append(go(two)))) == {"told": "succeeded"}
    assert ends == [{"told": "succeeded"}]
    first, second = batches(one, "told"), batches(two, "told")
    assert (len(first), len(second), first & second) == (SHARDS, SHARDS, set())
