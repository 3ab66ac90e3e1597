"""`forget` makes true what it says: nothing here brings back what was forgotten, and nothing that runs is dropped."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import BinaryIO

import pytest
import typer

import runner
from runner.api import open_project
from runner.cli.commands.forget import forget
from runner.errors import BatchspecError, StoreError
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.state.atomic import atomic_write
from runner.state.ledger import Ledger
from tests.executor.story import ENVIRON, ROWS, SHARD, TEXTS, apply, checkout
from tests.providers.stub import Stub

SHARDS = ROWS // SHARD
LOCK = "specs/told.lock"


@pytest.fixture
def root(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose job is done; commands run in it."""
    made = checkout(tmp_path, stub.url)
    assert apply(made)[0].end == "succeeded"
    monkeypatch.chdir(made)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something happen while a person is being asked."""

    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    def doing(act: Callable[[], object]) -> None:
        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(typer, "confirm", lambda *_, **__: act())

    return doing


def batches(root: Path) -> list[str]:
    lines = map(json.loads, (root / LOCK).read_text().splitlines())
    return [line["batch"] for line in lines if "batch" in line]


def one_more(root: Path) -> None:
    with (root / "data/rows.jsonl").open("a") as rows:
        rows.write('{"id": 99, "text": "number 99"}\n')


def texts(root: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (root / "out/told.jsonl").read_text().splitlines()]


def test_what_the_service_does_not_list_any_more_is_asked_again(stub: Stub, root: Path) -> None:
    stub.jobs.clear()
    forget("told", yes=True)
    (root / "out/told.jsonl").unlink()
    assert apply(root)[0].submitted == ROWS
    assert texts(root) == TEXTS
    # Once more, and this time its results are nowhere either.
    stub.jobs.clear()
    forget("told", yes=True)
    shutil.rmtree(root / ".batchspec/store")
    (root / "out/told.jsonl").unlink()
    outcome, _ = apply(root)
    assert (outcome.end, outcome.submitted) == ("succeeded", ROWS)


def test_what_the_service_still_lists_is_adopted_again(stub: Stub, root: Path) -> None:
    forget("told", yes=True)
    assert batches(root) == []
    assert apply(root)[0].submitted == 0
    assert (len(batches(root)), len(stub.jobs)) == (SHARDS, SHARDS)


def test_a_batch_submitted_while_it_asks_is_not_dropped(
    stub: Stub, root: Path, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    def more() -> None:
        one_more(root)
        stub.steps = ["in_progress"] * 1_000
        with open_project(runner.load(root=root), environ=ENVIRON, jobs=1) as opened:
            opened.apply(opened.plan(opened.context.project.jobs), wait=False)

    meanwhile(more)
    with pytest.raises(BatchspecError, match="told has a batch that runs, or that ended") as caught:
        forget("told")
    assert f"batch-{SHARDS + 1}" in caught.value.message
    assert len(batches(root)) == SHARDS + 1


def test_batches_that_were_not_shown_are_not_dropped(
    root: Path, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    """A whole apply went by while a person was asked about fewer answers."""

    def more() -> None:
        one_more(root)
        apply(root)

    meanwhile(more)
    with pytest.raises(BatchspecError, match="told has other batches by now than were shown"):
        forget("told")
    assert len(batches(root)) == SHARDS + 1


@pytest.mark.parametrize("batch", [None, "batch-99"], ids=["not answered", "answered, and the lockfile not written"])
def test_a_create_that_no_lockfile_knows_of_stays_in_the_ledger(root: Path, batch: str | None) -> None:
    """What it made may run: it is looked for, also after the rest is forgotten."""
    ledger = Ledger(root / ".batchspec/ledger.db")
    made = ledger.creates(None, "told")
    ledger.create_intended(replace(made[0], request_id="another", file_id="another"))
    if batch is not None:
        ledger.created(made[0].realm, "another", batch)
    forget("told", yes=True)
    left = ledger.creates(None, "told")
    ledger.close()
    assert len(made) == SHARDS
    assert [(one.request_id, one.batch_id) for one in left] == [("another", batch)]


def test_a_crash_between_ledger_and_lockfile_leaves_something_to_forget(
    stub: Stub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> AbstractContextManager[BinaryIO]:
        if path.name == "told.lock":
            raise StoreError("the disk is full")
        return atomic_write(path)

    with monkeypatch.context() as patch:
        patch.setattr("runner.context.atomic_write", full)
        with pytest.raises(StoreError):
            forget("told", yes=True)
    assert len(batches(root)) == SHARDS
    forget("told", yes=True)
    stub.jobs.clear()
    assert apply(root)[0].submitted == ROWS


def test_a_batch_whose_results_are_here_counts_as_over_though_the_service_lost_it(
    stub: Stub, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line never got to say how it ended, and no command could make it."""
    monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 0.0)
    lines = [json.loads(line) for line in (root / LOCK).read_text().splitlines()]
    for line in lines:
        if "batch" in line:
            line["state"] = "submitted"
            for name in ("ended_at", "counts", "usage", "cost", "price", "models", "results"):
                line.pop(name, None)
    (root / LOCK).write_text("".join(json.dumps(line) + "\n" for line in lines))
    stub.jobs.clear()
    forget("told", yes=True)
    assert batches(root) == []
