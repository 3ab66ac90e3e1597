"""The whole way against services that speak differently, and tell less than one would wish."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.executor.outcome import Outcome
from tests.executor.story import ROWS, SHARD, TEXTS, apply, checkout, plan
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Lost, Reply, Seen
from tests.sampling import sampled

SHARDS = ROWS // SHARD


@pytest.fixture(params=["guide", "openapi", "godo"])
def stub(request: pytest.FixtureRequest) -> Iterator[Stub]:
    with Stub(request.param) as running:
        yield running


@pytest.fixture
def root(stub: Stub, tmp_path: Path) -> Path:
    return checkout(tmp_path / "checkout", stub.url)


def done(root: Path) -> Outcome:
    outcome, _ = apply(root)
    return outcome


def texts(root: Path) -> list[Any]:
    return [json.loads(line)["text"] for line in (root / "out/told.jsonl").read_text().splitlines()]


def test_one_batch_a_shard_and_every_answer(stub: Stub, root: Path) -> None:
    assert done(root).end == "succeeded"
    assert texts(root) == TEXTS
    assert len(stub.jobs) == SHARDS
    assert not plan(root).changes


def test_a_create_whose_answer_was_lost(stub: Stub, root: Path) -> None:
    """The guide's list tells neither key nor metadata: there the file and the key of the second create settle it."""
    stub.on("POST", "/v1/batches", Lost(), Lost())
    assert done(root).end == "succeeded"
    assert texts(root) == TEXTS
    assert len(stub.jobs) == SHARDS


@pytest.mark.parametrize(
    "lost", sampled([(".batchspec",), (".batchspec", "specs/told.lock"), (".batchspec", "out")], 4), ids=" and ".join
)
def test_what_is_lost_here_is_found_there(stub: Stub, root: Path, lost: tuple[str, ...]) -> None:
    assert done(root).end == "succeeded"
    for path in lost:
        if (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            (root / path).unlink()
    outcome = done(root)
    assert len(stub.jobs) == SHARDS
    if not stub.dialect.identity and "specs/told.lock" in lost:
        # Nothing tells any more whose the batches are. The key stops a second one, and a person has to look.
        assert outcome.end == "error"
        assert (
            "the service does not say which job these batches belong to: batch-3, batch-2, batch-1" in outcome.message
        )
        return
    assert outcome.end == "succeeded"
    assert texts(root) == TEXTS


def test_a_service_that_does_not_count(stub: Stub, root: Path) -> None:
    """Where a completed batch tells no counts, a request without a line may have been answered and paid for."""

    def uncounted(seen: Seen) -> Reply:
        usual = stub.answer(seen)
        text = json.dumps(usual.body)
        told = json.loads(text, object_hook=lambda fields: {k: v for k, v in fields.items() if k != "request_counts"})
        return Reply(usual.status, told, usual.headers)

    def short(seen: Seen) -> Reply:
        usual = stub.answer(seen)
        return Reply(usual.status, usual.body[: usual.body.index(b"\n") + 1], usual.headers)

    for method, path in (("GET", "/v1/batches.*"), ("POST", "/v1/batches")):
        stub.on(method, path, *[Instead(uncounted)] * 500)
    stub.on("GET", "/download/.*", *[Instead(short)] * 500)
    assert done(root).end == "failed"
    assert len(stub.jobs) == SHARDS
    assert sum(text is None for text in texts(root)) == SHARDS * (SHARD - 1)
