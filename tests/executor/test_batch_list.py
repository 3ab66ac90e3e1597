"""The list of batches: how often it is read, how far back, and when again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from runner.api import load, open_project
from runner.context import NullWatcher
from runner.reconciler.plan.plan import Submit
from tests.executor.conftest import Team, ends

Make = Callable[..., Team]


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_calls_grow_with_pages_and_not_with_polls(team: Make, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Shards of one short row each: three calls to submit one, two to fetch it, and pages of the list for each look."""
    one = team()
    one.rows(*(f"number {n}" for n in range(count)))
    one.spec("job", "shards: {max_requests: 1}")
    calls: dict[str, int] = {}
    send = httpx.Client.send

    def counting(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        listing = request.method == "GET" and request.url.path == "/v1/batches"
        calls["list" if listing else "other"] = calls.get("list" if listing else "other", 0) + 1
        return send(self, request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx.Client, "send", counting)
    assert not one.plan().jobs[0].tally.answered
    before = calls.pop("list")
    assert calls == {}
    assert ends(one.apply()) == ["succeeded"]
    looks = calls["list"]
    assert calls["other"] == 5 * count
    calls.clear()
    plan = one.plan()
    assert not plan.changes
    assert calls.get("other", 0) == 0
    # The service is shared, and tests beside this one add to its list.
    pages = calls["list"]
    assert pages <= before + count // 100 + 2
    # It looks when it begins, some seconds apart while it submits, and while it waits, however many shards there are.
    assert looks <= 20 * pages
    assert [action for action in plan.jobs[0].actions if isinstance(action, Submit)] == []


def test_a_clock_far_ahead_hides_nothing_that_the_service_has(team: Make) -> None:
    """What is too old to have results is told by the service's own clock too."""
    one = team()
    assert ends(one.apply()) == ["succeeded"]
    shutil.rmtree(one.root / ".batchspec")
    (one.root / "specs/job.lock").unlink()
    (one.root / "out/job.jsonl").unlink()
    project = load(root=one.root, environ=one.environ)
    later = datetime.now(UTC) + timedelta(days=60)
    with open_project(project, environ=one.environ, jobs=1, now=lambda: later) as opened:
        plan = opened.plan(project.jobs).plan.jobs[0]
    assert (plan.submits, plan.tally.in_flight) == (0, 3)


def test_a_list_is_read_again_when_the_job_before_took_long(team: Make) -> None:
    """While one job is submitted, which may take an hour, another checkout submits the next one, cut in another way."""
    one, other = team("long"), team("long-too")
    other.write("batchspec.yaml", (one.root / "batchspec.yaml").read_text())
    one.spec("a", 'salt: "a"')
    one.spec("b", 'salt: "b"')
    other.spec("b", 'salt: "b"', "shards: {max_requests: 2}")
    for checkout in (one, other):
        (checkout.root / "specs/job.yaml").unlink()
    ahead = timedelta()

    class Meanwhile(NullWatcher):
        def event(self, name: str, **fields: object) -> None:
            nonlocal ahead
            if name == "batch.submitted" and fields["job"] == "a":
                other.apply(waiting=False)
                ahead = timedelta(hours=1)

    project = load(root=one.root, environ=one.environ)
    with open_project(
        project, environ=one.environ, watcher=Meanwhile(), jobs=1, now=lambda: datetime.now(UTC) + ahead
    ) as opened:
        assert ends(opened.apply(opened.plan(project.jobs))) == ["succeeded", "succeeded"]
    made = [batch["metadata"]["job"] for batch in one.remote()]
    assert sorted(made) == ["a", "b", "b"]
    assert ends(other.apply()) == ["succeeded"]
    assert other.output("b") == one.output("b")
