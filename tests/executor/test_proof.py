"""Lockfile and output come from git: answers of a batch that never was are not taken for paid ones unseen."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from runner.api import load, open_project
from runner.cli.commands.verify import with_unknown
from runner.errors import BatchspecError
from runner.operations.planned import refuse_unknown
from runner.operations.verify import verify
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.reconciler.observe.proof import MOST
from runner.reconciler.plan.plan import Plan
from runner.views.plan_markdown import markdown
from runner.views.plan_text import explain
from tests.executor.conftest import Team, ends

Make = Callable[..., Team]
FORGED = "batch_that_never_was"


def forge(team: Make, *, created_at: str = "") -> Team:
    """A project whose lockfile and output come from somewhere else: each row has an answer, of a batch of no service."""
    real, one = team("real"), team("forged")
    assert ends(real.apply()) == ["succeeded"]
    [batch] = real.lines("batch")
    output = (real.root / "out/job.jsonl").read_text()
    made = output.replace(batch["batch"], FORGED)
    old, new = (hashlib.sha256(text.encode()).hexdigest() for text in (output, made))
    lock = (real.root / "specs/job.lock").read_text()
    lock = lock.replace(batch["batch"], FORGED).replace(old, new).replace('"project":"real"', '"project":"forged"')
    lock = lock.replace(batch["ended_at"], created_at) if created_at else lock
    one.write("out/job.jsonl", made)
    one.write("specs/job.lock", lock.replace(batch["created_at"], created_at) if created_at else lock)
    return one


def test_answers_of_a_batch_that_never_was_are_refused(team: Make) -> None:
    """They were "3 reused", and apply had nothing to do."""
    one = forge(team)
    plan = one.plan()
    [job] = plan.jobs
    assert (job.tally.answered, job.unknown_batches, job.unproven) == (3, (FORGED,), 0)
    assert f"note: answers of a batch that the service does not know: {FORGED}" in explain(plan)
    assert "nothing to do, 3 reused, **answers of 1 batch that the service does not know**" in markdown(plan)
    with pytest.raises(BatchspecError, match=f"job: batch {FORGED}") as caught:
        refuse_unknown(plan)
    assert caught.value.codes == ("BS413",)


def test_verify_says_so_too(team: Make) -> None:
    one = forge(team)
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ) as opened:
        [prepared] = opened.prepare(project.jobs)[0]
        found = verify(opened.context, prepared)
        assert not found.wrong
        wrong = with_unknown(found, opened.plan(project.jobs).plan).wrong
    assert wrong == (f"answers of a batch that the service does not know: {FORGED}",)


def test_where_the_service_is_not_asked_they_are_counted(team: Make) -> None:
    plan = forge(team).plan(offline=True)
    assert (plan.jobs[0].unknown_batches, plan.jobs[0].unproven) == ((), 3)
    assert "3 reused (3 known only from lockfile and output)" in explain(plan)
    assert "3 reused (3 known only from lockfile and output)" in markdown(plan)


@pytest.mark.parametrize(
    ("age", "unknown"),
    [
        pytest.param(timedelta(days=1), (FORGED,), id="the service would keep it"),
        pytest.param(timedelta(days=-400), (FORGED,), id="from the future"),
        pytest.param(timedelta(days=40), (), id="older than results are kept"),
        pytest.param(timedelta(seconds=1), (), id="so new that the service may not show it yet"),
    ],
)
def test_only_what_the_service_must_know_is_doubted(
    team: Make, monkeypatch: pytest.MonkeyPatch, age: timedelta, unknown: tuple[str, ...]
) -> None:
    monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 3_600.0)
    [job] = forge(team, created_at=(datetime.now(UTC) - age).isoformat()).plan().jobs
    assert (job.unknown_batches, job.unproven) == (unknown, 0 if unknown else 3)


def gets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each call to the service from now on."""
    calls: list[str] = []
    send = httpx.Client.send

    def counted(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        calls.append(f"{request.method} {request.url.path}")
        return send(self, request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx.Client, "send", counted)
    return calls


def test_a_batch_in_the_list_costs_no_call(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh checkout at a service that has the batch: nothing is doubted, nothing is asked for one by one."""
    one = team()
    one.apply()
    shutil.rmtree(one.root / ".batchspec")
    calls = gets(monkeypatch)
    [job] = one.plan().jobs
    assert (job.tally.answered, job.unknown_batches, job.unproven) == (3, (), 0)
    assert [call for call in calls if not call.endswith("/v1/batches")] == []


@pytest.mark.slow
def test_a_lockfile_of_many_batches_makes_few_calls(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = forge(team)
    one.rows(*(f"number {n}" for n in range(60)))
    real = team("many")
    real.rows(*(f"number {n}" for n in range(60)))
    real.spec("job", "shards: {max_requests: 1}")
    real.apply()
    one.spec("job", "shards: {max_requests: 1}")
    output, lock = (real.root / "out/job.jsonl").read_text(), (real.root / "specs/job.lock").read_text()
    made = output
    for line in real.lines("batch"):
        made, lock = (text.replace(line["batch"], f"no-{line['batch']}") for text in (made, lock))
    old, new = (hashlib.sha256(text.encode()).hexdigest() for text in (output, made))
    one.write("out/job.jsonl", made)
    one.write("specs/job.lock", lock.replace(old, new).replace('"project":"many"', '"project":"forged"'))
    calls = gets(monkeypatch)
    [job] = one.plan().jobs
    assert (len(job.unknown_batches), job.unproven) == (MOST, 60 - MOST)
    assert len([call for call in calls if not call.endswith("/v1/batches")]) == MOST


def test_an_honest_plan_says_nothing_of_it(team: Make) -> None:
    one = team()
    one.apply()
    plan: Plan = one.plan()
    assert "alone" not in explain(plan)
    assert (plan.jobs[0].unknown_batches, plan.jobs[0].unproven) == ((), 0)
