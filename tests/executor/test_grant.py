"""What an apply may submit is in the ledger before its first create, for `listen`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.api import load, open_project
from runner.executor.apply import apply as execute
from runner.executor.grant import remaining_limits
from runner.executor.outcome import Outcome
from runner.jobspec.realm import realm_of
from runner.reconciler.observe.observe import ApplyOptions, Resume
from runner.state.ledger import Create, Grant, Ledger
from tests.executor.conftest import Team, ends
from tests.sampling import sampled

Make = Callable[..., Team]
NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)


def grant_of(one: Team, job: str = "job") -> Grant | None:
    spec = next(spec for spec in load(root=one.root, environ=one.environ).jobs if spec.address == job)
    ledger = Ledger(one.root / ".batchspec/ledger.db")
    try:
        return ledger.grant_of(realm_of(spec), job)
    finally:
        ledger.close()


def resumed(one: Team, resume: Resume) -> tuple[Outcome, ...]:
    """Continue the project's jobs as `listen` does, within their grants."""
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ=one.environ, watcher=one, jobs=1) as opened:
        jobs, _ = opened.prepare(project.jobs)
        limits = {}
        grant = grant_of(one)
        if grant is not None:
            ledger = Ledger(opened.context.places.ledger)
            left = remaining_limits(ledger, grant, {line["request_id"] for line in one.lines("batch")})
            assert left is not None
            limits["job"] = left
            ledger.close()
        return execute(opened.context, jobs, ApplyOptions(resume=resume), limits, waiting=False)


def ended(one: Team) -> None:
    """Wait until all batches have ended at the service."""
    import time

    while not all(batch["status"] == "completed" for batch in one.remote()):
        time.sleep(0.02)


def test_an_apply_records_its_limit_and_its_pins(team: Make) -> None:
    one = team()
    one.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
    one.apply(waiting=False)
    found = grant_of(one)
    assert found is not None
    assert (found.requests, found.retries, found.rounds) == (3, 0, 3)
    assert found.pins in {line["pins"] for line in one.lines("pins")}


def test_a_finished_job_records_nothing(team: Make) -> None:
    one = team()
    one.apply()
    before = grant_of(one)
    one.apply()
    assert grant_of(one) == before


def test_no_new_takes_nothing_back(team: Make) -> None:
    one = team()
    one.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
    one.apply(waiting=False)
    before = grant_of(one)
    one.apply(ApplyOptions(no_new=True), waiting=False)
    assert grant_of(one) == before


def test_the_remaining_shards_are_submitted_within_the_limit(team: Make) -> None:
    """One after the other, as the batches before them end."""
    one = team()
    one.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
    one.apply(waiting=False)
    for batches in (2, 3):
        ended(one)
        assert ends(resumed(one, Resume.SUBMIT)) == ["running"]
        assert len(one.remote()) == batches
    ended(one)
    assert ends(resumed(one, Resume.SUBMIT)) == ["succeeded"]
    assert len(one.output()) == 3
    assert len(one.remote()) == 3
    assert not one.plan().changes


def test_beyond_the_limit_nothing_is_submitted(team: Make) -> None:
    one = team()
    one.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
    one.apply(waiting=False)
    found = grant_of(one)
    assert found is not None
    ledger = Ledger(one.root / ".batchspec/ledger.db")
    ledger.record_grant(
        Grant(found.realm, found.address, found.pins, 1, 0, 0, found.rounds, "", found.at)
    )  # fmt: skip
    ledger.close()
    ended(one)
    [outcome] = resumed(one, Resume.SUBMIT)
    assert (outcome.end, outcome.codes) == ("error", ("BS606",))
    assert len(one.remote()) == 1


@pytest.mark.parametrize("resume", sampled([Resume.WRITE, Resume.DOWNLOAD], 1))
def test_without_a_limit_nothing_is_submitted(team: Make, resume: Resume) -> None:
    one = team()
    one.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
    one.apply(waiting=False)
    ended(one)
    [outcome] = resumed(one, resume)
    assert (outcome.end, outcome.message) == ("skipped", f"{resume.value}; `batchspec apply` continues")
    assert [line["state"] for line in one.lines("batch")] == ["completed"]
    assert len(one.remote()) == 1
    assert not (one.root / "out/job.jsonl").exists()


@pytest.mark.parametrize(
    ("resume", "end", "written"), [(Resume.WRITE, "succeeded", True), (Resume.DOWNLOAD, "skipped", False)]
)
def test_a_complete_job_is_written_unless_it_may_not_be(team: Make, resume: Resume, end: str, written: bool) -> None:
    one = team()
    one.apply(waiting=False)
    ended(one)
    assert ends(resumed(one, resume)) == [end]
    assert (one.root / "out/job.jsonl").exists() is written
    assert [line["state"] for line in one.lines("batch")] == ["completed"]


def test_a_ledger_of_an_older_version_gets_the_table(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "ledger.db"
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("drop table grants")
    db.close()
    ledger = Ledger(path)
    assert ledger.grant_of("realm", "job") is None
    ledger.close()


def test_what_was_submitted_counts_by_round_unless_it_was_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    for number, (key, state) in enumerate((("a", "created"), ("b", "intended"), ("c", "refused")), 1):
        ledger.create_intended(Create("realm", key, "job", key, "file", number, 10, 1, 1, "intended", None, NOW))
        if state == "created":
            ledger.created("realm", key, f"batch-{key}")
        if state == "refused":
            ledger.refused("realm", key)
    grant = Grant("realm", "job", "pins", 9, 0, 0, 3, "", NOW)
    for recorded, used in (((), 1), (("b",), 3)):
        left = remaining_limits(ledger, grant, recorded)
        assert left is not None
        assert left.used == ((1, used),)
    assert remaining_limits(ledger, replace(grant, at=NOW.replace(hour=9)), ()) is None
    assert ledger.address_of("realm", "batch-a") == "job"
    assert ledger.address_of("other", "batch-a") is None
    assert ledger.unconfirmed("realm") == {"job"}
    ledger.close()
