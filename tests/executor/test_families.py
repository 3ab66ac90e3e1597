"""`budget` and `max_in_flight` of a spec bound all its partitions of one command together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from runner import api
from runner.errors import BatchspecError
from runner.executor.in_flight import InFlightLimit
from runner.operations.choice import Choice
from runner.operations.selection import Scope, select
from runner.planner.shards import Shard
from tests.conftest import SPEC
from tests.sampling import sampled

Write = Callable[..., Path]
DAILY = (
    SPEC.replace("name: hello", "name: daily\nprovider: local").replace("out/hello.jsonl", '"out/{{ address }}.jsonl"')
    + "partition: {date: {every: day, start: 2026-11-01}}\n"
)
DUE = Choice(due=True, now=datetime(2026, 11, 3, tzinfo=UTC))


@pytest.mark.parametrize(("limit", "over"), sampled([(5, True), (6, False)], 1))
def test_a_budget_bounds_the_days_of_one_command_together(project: Write, limit: int, over: bool) -> None:
    root = project({"specs/hello.yaml": DAILY + f"budget: {{max_requests: {limit}}}\n"})
    loaded = api.load(root=root, environ={})
    planned = api.plan(loaded, offline=True, choice=DUE)
    assert bool(planned.over_budget) is over
    if over:
        assert planned.over_budget[0].startswith("daily, 2 partitions: max_requests: ")
        with pytest.raises(BatchspecError, match="over budget"):
            api.apply(loaded, choice=DUE)
        assert not (root / "specs/hello.lock").exists()
    one = Choice(("daily[date=2026-11-01]",), now=DUE.now)
    assert api.plan(loaded, offline=True, choice=one).over_budget == ()


def test_max_in_flight_counts_the_batches_of_all_days(project: Write, tmp_path: Path) -> None:
    other = DAILY.replace("name: daily", "name: other")
    files = {"specs/hello.yaml": DAILY + "max_in_flight: {shards: 1}\n", "specs/other.yaml": other}
    found = select(api.load(root=project(files), environ={}), DUE, Scope.RUN, {}, datetime.now(UTC))
    jobs = {job.address: job for job in found.jobs}
    limit = InFlightLimit(None)
    shard = Shard("0" * 64, 1, 8, tmp_path, np.empty(0, "S32"))
    assert limit.try_acquire(jobs["other[date=2026-11-01]"], shard)
    assert limit.try_acquire(jobs["daily[date=2026-11-01]"], shard)
    assert not limit.has_room(jobs["daily[date=2026-11-02]"])
    assert not limit.try_acquire(jobs["daily[date=2026-11-02]"], shard)
    assert limit.try_acquire(jobs["other[date=2026-11-02]"], shard)
    limit.release(jobs["daily[date=2026-11-01]"], shard)
    assert limit.try_acquire(jobs["daily[date=2026-11-02]"], shard)
