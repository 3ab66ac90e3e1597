"""Closed partitions that were asked again, by an apply that died before it recorded the batch."""

from __future__ import annotations

from datetime import UTC, datetime

from runner.api import load
from runner.operations.choice import Choice
from runner.operations.selection import Scope, select
from tests.executor.test_partitions import ADDRESS, OUTPUT, REOPEN, RETRY, SAID, Daily, daily, failing

__all__ = ["daily", "failing"]


def _open_addresses(daily: Daily) -> list[str]:
    project = load(root=daily.root, environ=daily.team.environ)
    found = select(project, Choice(), Scope.RUN, daily.team.environ, datetime.now(UTC))
    return [spec.address for spec in found.jobs]


def test_a_first_create_that_only_the_ledger_knows_is_continued(daily: Daily) -> None:
    daily.apply(waiting=False)
    (daily.root / "specs/job.lock").unlink()
    assert _open_addresses(daily) == [ADDRESS]
    assert daily.apply().end == "succeeded"
    assert _open_addresses(daily) == []
    assert len(daily.team.remote()) == 1


def test_a_killed_reopen_is_adopted(daily: Daily) -> None:
    daily.commit()
    daily.apply()
    assert _open_addresses(daily) == []
    before = (daily.root / "specs/job.lock").read_bytes()
    daily.say("Tell")
    daily.apply(REOPEN, waiting=False)
    (daily.root / "specs/job.lock").write_bytes(before)
    assert _open_addresses(daily) == [ADDRESS]
    assert daily.apply().end == "succeeded"
    assert [batch["state"] for batch in daily.team.lines("batch")] == ["completed", "completed"]
    assert _open_addresses(daily) == []
    assert daily.apply(REOPEN).submitted == 0
    assert daily.texts == ["Tell one.", "Tell two.", "Tell three."]
    assert len(daily.team.remote()) == 2


def test_a_killed_retry_is_adopted(failing: Daily) -> None:
    """And rows that came late are not submitted."""
    failing.commit()
    failing.apply()
    before = (failing.root / "specs/job.lock").read_bytes()
    failing.apply(RETRY, waiting=False)
    (failing.root / "specs/job.lock").write_bytes(before)
    failing.rows("one", "two", "three", "late")
    assert failing.apply().end == "succeeded"
    assert (failing.texts, failing.partition) == (SAID, {"state": "closed", "batches": 2})
    assert len(failing.team.remote()) == 2


def test_a_forged_output_line_stops_no_plan(daily: Daily) -> None:
    """The line's path leads out of the project; its partition is looked at again, and nothing is written there."""
    daily.apply()
    lock = daily.root / "specs/job.lock"
    lock.write_text(lock.read_text().replace(f'"output":"{OUTPUT}"', '"output":"../../x.jsonl"'))
    assert not daily.plan().closed
    assert not (daily.root / "../../x.jsonl").exists()
