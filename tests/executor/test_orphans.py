"""Batches of jobs that have left the specs: ended on a person's word, and nothing that runs on is said to be over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.api import open_project
from runner.cli.commands.cancel import cancel
from runner.errors import BatchspecError
from runner.executor.outcome import Outcome
from runner.jobspec.loader import load_project
from runner.operations import orphans
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.reconciler.observe.observe import ApplyOptions
from tests.executor.story import ENVIRON, TEXTS, Clock, apply, checkout
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Reply, Seen

REFUSED = Reply(409, {"id": "conflict", "message": "it has not reached its upstream yet"})
MANY = 1_000
CANCEL, RESULTS = "/v1/batches/[^/]+/cancel", "/v1/batches/[^/]+/results"


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub("guide") as running:
        running.steps = ["in_progress"] * MANY
        yield running


@pytest.fixture
def root(stub: Stub, tmp_path: Path) -> Path:
    """A checkout whose job has one batch that runs, and has left the specs."""
    made = checkout(tmp_path, stub.url)
    spec = made / "specs/told.yaml"
    spec.write_text(spec.read_text().replace("max_requests: 2", "max_requests: 100"))
    go(made, waiting=False)
    spec.rename(made / "told.yaml")
    return made


def go(root: Path, word: ApplyOptions = ApplyOptions(), *, waiting: bool = True) -> tuple[Outcome, ...]:  # noqa: B008
    clock = Clock()
    project = load_project(root, variables={}, provider=None, environ=ENVIRON, allow_partial=True)
    with open_project(project, environ=ENVIRON, jobs=1, now=clock.now) as opened:
        opened.context.sleep = clock.sleep
        return opened.apply(opened.plan(project.jobs, word), word, wait=waiting)


def line(root: Path) -> dict[str, Any]:
    lines = (json.loads(text) for text in (root / "specs/told.lock").read_text().splitlines())
    found: list[dict[str, Any]] = [one for one in lines if "batch" in one]
    [only] = found
    return only


PRUNE = ApplyOptions(prune=True)


def test_a_batch_whose_cancel_is_refused_is_told_to_run_on(
    stub: Stub, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.on("POST", CANCEL, *[REFUSED] * MANY)
    [outcome] = go(root, PRUNE)
    assert (outcome.address, outcome.end, outcome.codes) == ("--prune", "error", ("BS807",))
    for words in (
        "told: batch batch-1: the service does not cancel it",
        "it has not reached its upstream yet",
        "it is in_progress, runs on, and what it answers is billed",
        "`batchspec cancel told` tries again",
    ):
        assert words in outcome.message
    monkeypatch.setattr(orphans, "CANCEL_POLLS", 0)
    monkeypatch.setattr("os.environ", {**ENVIRON})
    monkeypatch.chdir(root)
    with pytest.raises(BatchspecError, match="runs on, and what it answers is billed"):
        cancel("told", yes=True)
    assert "Done" not in capsys.readouterr().out
    assert line(root)["state"] == "submitted"


def test_a_cancel_that_is_refused_at_first_is_tried_again(stub: Stub, root: Path) -> None:
    stub.on("POST", CANCEL, *[REFUSED] * 3)
    assert go(root, PRUNE) == ()
    assert line(root)["state"] == "cancelled"


def test_a_batch_that_takes_its_time_to_end_is_told_to_run_on(stub: Stub, root: Path) -> None:
    def slowly(seen: Seen) -> Reply:
        told = stub.answer(seen)
        stub.jobs[0].steps = ["cancelling"] * MANY
        return told

    stub.on("POST", CANCEL, Instead(slowly))
    [outcome] = go(root, PRUNE)
    assert "it is cancelled and has not ended yet: it is cancelling, runs on" in outcome.message
    stub.jobs[0].steps = ["cancelled"]
    assert go(root, PRUNE) == ()
    assert line(root)["state"] == "cancelled"


def test_what_a_pruned_batch_cost_is_recorded(root: Path) -> None:
    go(root, PRUNE)
    found = line(root)
    assert found["price"]["input"] > 0
    assert found["cost"] > 0


def test_results_that_come_late_are_not_taken_for_gone(stub: Stub, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch has just ended, and what it answered shows some time after."""
    monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 600.0)
    stub.jobs[0].steps = ["completed"]
    stub.on("GET", RESULTS, Reply(404, {"id": "not_found", "message": "no such results"}))
    [outcome] = go(root, PRUNE)
    assert (outcome.end, line(root)["state"]) == ("error", "submitted")
    assert "gone" not in line(root)
    assert go(root, PRUNE) == ()
    assert line(root)["counts"]["completed"] == len(TEXTS)


@pytest.mark.slow
def test_a_live_job_is_told_that_its_batch_runs_on(
    stub: Stub, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "told.yaml").rename(root / "specs/told.yaml")
    monkeypatch.setattr("os.environ", {**ENVIRON})
    monkeypatch.chdir(root)
    stub.on("POST", CANCEL, REFUSED)
    with pytest.raises(BatchspecError, match="the service refused to cancel batch batch-1") as caught:
        cancel("told", yes=True)
    assert "it keeps running, and its answers are billed" in caught.value.hint
    cancel("told", yes=True)
    assert "batch-1: cancelling" in capsys.readouterr().out
    assert apply(root)[0].submitted == len(TEXTS) - 1
