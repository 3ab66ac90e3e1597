"""What is in doubt is not asked again: by another key, by an old lockfile, or by a word that was said for less."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import runner
from runner.api import open_project
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.reconciler.observe.observe import ApplyOptions
from tests.executor.story import ENVIRON, ROWS, SHARD, TEXTS, Clock, apply, checkout, plan, texts
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Lost, Reply, Seen

SHARDS = ROWS // SHARD
MANY = 10_000
ASK = ApplyOptions(ask_unknown=frozenset({"told"}))


@pytest.fixture(autouse=True)
def _as_in_life(monkeypatch: pytest.MonkeyPatch, _settled_at_once: None) -> None:
    monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 600.0)


def change(root: Path, before: str, after: str, file: str = "specs/told.yaml") -> None:
    path = root / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def interrupted(root: Path) -> None:
    """An apply that is stopped when it first has to wait."""

    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    with open_project(runner.load(root=root), environ=ENVIRON, jobs=1, now=Clock().now) as opened:
        planned = opened.plan(opened.context.project.jobs)
        opened.context.sleep = stop
        with pytest.raises(KeyboardInterrupt):
            opened.apply(planned)


@pytest.mark.parametrize(
    "edit",
    [("name: told", "name: fresh\nmoved: {from: told}"), ("name: told", "name: told\ncanary: {requests: 1}")],
    ids=["moved", "canary"],
)
def test_a_create_in_doubt_is_waited_for_where_another_key_would_go_out(
    stub: Stub, tmp_path: Path, edit: tuple[str, str]
) -> None:
    """Its answer was lost, the apply was stopped, the spec was changed, and the list shows the batch late."""
    root = checkout(tmp_path, stub.url)
    apply(root)
    rows = root / "data/rows.jsonl"
    rows.write_text(rows.read_text() + '{"id": 98, "text": "number 98"}\n{"id": 99, "text": "number 99"}\n')
    stub.late = 2
    stub.on("POST", "/v1/batches", Lost())
    interrupted(root)
    change(root, *edit)
    assert apply(root)[0].end == "succeeded"
    assert texts(root) == [*TEXTS, "Say number 98.", "Say number 99."]
    assert len(stub.jobs) == SHARDS + 1


def test_a_lockfile_of_before_the_last_run_is_no_leave_to_pay_again(tmp_path: Path) -> None:
    """A service that tells no keys: what ran since shows as batches that nobody has recorded."""
    with Stub("guide") as stub:
        stub.keys = False
        root = checkout(tmp_path / "one", stub.url)
        apply(root)
        fresh = tmp_path / "two"
        shutil.copytree(root, fresh)
        shutil.rmtree(fresh / ".batchspec")
        for path in (root, fresh):
            with (path / "data/rows.jsonl").open("a") as rows:
                rows.write('{"id": 99, "text": "number 99"}\n')
        assert apply(root)[0].end == "succeeded"
        outcome, _ = apply(fresh)
        assert outcome.end == "error"
        assert "no submission of this job is recorded after batch-3" in outcome.message
        assert f"these batches belong to: batch-{SHARDS + 1};" in outcome.message
        assert len(stub.jobs) == SHARDS + 1


def test_unknown_requests_are_asked_again_once_for_each_time_it_is_said(stub: Stub, tmp_path: Path) -> None:
    """The service drops the line each time, and counts it as answered."""

    def without(seen: Seen) -> Reply:
        told = stub.answer(seen)
        name = f"{seen.path.split('/')[3]}.jsonl"
        whole = stub.blobs[name]
        assert isinstance(whole, bytes)
        stub.blobs[name] = b"".join(line for line in whole.splitlines(keepends=True) if b"number 0." not in line)
        return told

    stub.on("GET", "/v1/batches/[^/]+/results", *[Instead(without)] * MANY)
    root = checkout(tmp_path, stub.url)
    assert apply(root)[0].end == "failed"
    rows = root / "data/rows.jsonl"
    for number in (1, 2):
        # New rows beside it, so that the plan allows more than the one request.
        rows.write_text(rows.read_text() + f'{{"id": {90 + number}, "text": "number {90 + number}"}}\n')
        before = len(stub.jobs)
        outcome, _ = apply(root, ASK)
        assert (outcome.end, outcome.submitted) == ("failed", 2)
        assert sum("Say number 0." in job.answers.values() for job in stub.jobs[before:]) == 1
    assert plan(root).tally.unknown == 1


def test_a_batch_that_another_realm_has_goes_over_to_it(stub: Stub, tmp_path: Path) -> None:
    """The same service by another spelling of its address: what it lists is taken over once, and not paid again."""
    root = checkout(tmp_path, stub.url)
    apply(root)
    change(root, "127.0.0.1", "localhost", "batchspec.yaml")
    outcome, watcher = apply(root)
    assert outcome.end == "succeeded"
    assert [name for name, _ in watcher.events].count("batch.adopted") == SHARDS
    assert texts(root) == TEXTS
    assert not plan(root).changes
    assert len(stub.jobs) == SHARDS
