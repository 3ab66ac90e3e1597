"""`--no-new`: what was asked is downloaded, asked again where that is due, and written; nothing else is submitted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.plan import Hold, JobPlan, Submit, Wait, Write, without_new
from runner.reconciler.plan.plan_limits import PlanLimits, plan_limits_of
from tests.executor.conftest import Team, ends

Make = Callable[..., Team]
NOTHING_NEW = ApplyOptions(no_new=True)


def test_a_job_that_was_never_asked_stays_so(team: Make) -> None:
    one = team()
    [job] = one.plan(NOTHING_NEW).jobs
    assert [type(action) for action in job.actions] == [Hold]
    assert (job.held_back, job.estimate) == (3, None)
    [outcome] = one.apply(NOTHING_NEW)
    assert (outcome.end, outcome.submitted) == ("skipped", 0)
    assert outcome.message == "3 requests never asked; apply without `--no-new` submits them"
    assert not one.remote()
    assert not (one.root / "out/job.jsonl").exists()
    assert not (one.root / "specs/job.lock").exists()


@pytest.mark.slow
def test_a_row_that_came_leaves_the_output_as_it_is(team: Make) -> None:
    """It would lack an answer; the other answers stay where they are."""
    one = team()
    one.apply()
    before = (one.root / "out/job.jsonl").read_bytes(), (one.root / "specs/job.lock").read_bytes()
    one.rows("one", "two", "three", "four")
    assert ends(one.apply(NOTHING_NEW)) == ["skipped"]
    after = (one.root / "out/job.jsonl").read_bytes(), (one.root / "specs/job.lock").read_bytes()
    assert after == before
    assert len(one.remote()) == 1
    assert ends(one.apply()) == ["succeeded"]
    assert len(one.remote()) == 2


@pytest.mark.parametrize("lost", [False, True], ids=["", "without its lockfile"])
def test_what_was_asked_is_waited_for_and_written(team: Make, lost: bool) -> None:
    one = team()
    one.apply(waiting=False)
    if lost:
        (one.root / "specs/job.lock").unlink()
    assert ends(one.apply(NOTHING_NEW)) == ["succeeded"]
    assert len(one.output()) == 3
    assert len(one.remote()) == 1
    assert not one.plan().changes


def test_answers_of_a_job_with_new_rows_are_fetched_all_the_same(team: Make) -> None:
    """They are recorded while the service has them; the output waits for what was not asked."""
    one = team()
    one.apply(waiting=False)
    one.rows("one", "two", "three", "four")
    assert ends(one.apply(NOTHING_NEW)) == ["skipped"]
    [line] = one.lines("batch")
    assert (line["state"], line["counts"]["completed"]) == ("completed", 3)
    assert not (one.root / "out/job.jsonl").exists()


@pytest.mark.parametrize(
    ("actions", "tally", "ceiling"),
    [
        pytest.param(
            (Submit(1, 3, 1, 300, "first run"), Submit(2, 2, 1, 200, "round 2"), Write("out/x", 5, "new")),
            KeyCounts(rows=5, submit=((1, 3), (2, 2))),
            PlanLimits(0, 2, 0, 3),
            id="retries are paid and stay in the ceiling",
        ),
        pytest.param(
            (Wait("b", 4, False, "it runs"),),
            KeyCounts(rows=5, in_flight=5),
            PlanLimits(0, 0, 5, 3),
            id="what no batch holds is never asked, what fails of the others may be",
        ),
        pytest.param(
            (Wait("b", 4, True, "it runs"),),
            KeyCounts(rows=4, in_flight=4),
            PlanLimits(0, 0, 4, 3),
            id="nothing is new",
        ),
    ],
)
def test_the_ceiling_has_retries_and_no_first_asks(actions: tuple, tally: KeyCounts, ceiling: PlanLimits) -> None:  # type: ignore[type-arg]
    plan = without_new(JobPlan("job", "r", "out/x", tally, actions, 0))
    assert plan_limits_of(plan, 3) == ceiling
    assert not plan.new
    assert not (plan.held_back and any(isinstance(action, Write) for action in plan.actions))
