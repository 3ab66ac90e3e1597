"""Results that are behind, refused, half kept or mixed up: what was paid for is found again, and nothing is paid twice."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.api import open_project
from runner.base.digest import sha256_file
from runner.context import Realm
from runner.executor.fetch import fetch
from runner.providers.protocol import BatchApi
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.reconciler.observe.observe import ApplyOptions
from runner.state.results import CustomIdMap
from tests.executor.story import ENVIRON, ROWS, SHARD, TEXTS, apply, checkout, plan
from tests.providers import dialects
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Reply, Seen
from tests.sampling import sampled

SHARDS = ROWS // SHARD
MANY = 10_000
ASK = ApplyOptions(ask_unknown=frozenset({"told"}))
GONE = Reply(404, {"id": "not_found", "message": "gone"})


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(dialects, "LASTS", timedelta(0))
    with Stub() as running:
        yield running


def salvaged(stub: Stub, folder: Path, kept: int) -> tuple[Path, list[str]]:
    """A checkout whose answers stood in its output alone, and are in the store as rows; and the input before it was cut."""
    root = checkout(folder, stub.url)
    done(stub, root)
    shutil.rmtree(root / ".batchspec")
    stub.on("GET", "/v1/batches/batch-.*/results", *[GONE] * MANY)
    data = root / "data/rows.jsonl"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:kept]))
    assert apply(root)[0].end == "succeeded"
    return root, lines


def rows(root: Path) -> list[Any]:
    return [json.loads(line) for line in (root / "out/told.jsonl").read_text().splitlines()]


def texts(root: Path) -> list[Any]:
    return [row["text"] for row in rows(root)]


def lock(root: Path) -> str:
    return (root / "specs/told.lock").read_text()


def done(stub: Stub, root: Path, batches: int = SHARDS) -> list[str]:
    """Apply once, which must do; what was told."""
    outcome, watcher = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert texts(root) == TEXTS
    assert len(stub.jobs) == batches
    return [name for name, _ in watcher.events]


def without_summaries(root: Path) -> None:
    """As the hint of a damaged one says, or a kill leaves it."""
    for path in (root / ".batchspec").rglob("*.summary.json"):
        path.unlink()


def another(root: Path) -> Path:
    """A checkout of what git has."""
    other = root.parent / "other"
    shutil.copytree(root, other, ignore=shutil.ignore_patterns(".batchspec", "out"))
    return other


@contextmanager
def service(root: Path) -> Iterator[tuple[BatchApi, Realm]]:
    """The service and the store of a checkout's job."""
    with open_project(runner.load(root=root), environ=ENVIRON, jobs=1) as opened:
        [spec] = opened.context.project.jobs
        yield opened.context.api(spec), opened.context.realm(spec)


class TestBehind:
    """For its first minutes, what a batch says of itself is behind, as its results are."""

    @pytest.fixture(autouse=True)
    def _as_in_life(self, monkeypatch: pytest.MonkeyPatch, _settled_at_once: None) -> None:
        monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 600.0)

    @pytest.mark.parametrize("outcome", sampled(["expired", "failed"], 1))
    @pytest.mark.parametrize("status", [404, 412])
    def test_counts_that_are_behind_are_not_believed(
        self, stub: Stub, tmp_path: Path, outcome: str, status: int
    ) -> None:
        stub.outcome = outcome
        looks = iter(range(20))

        def behind(seen: Seen) -> Reply:
            told = stub.answer(seen)
            for batch in told.body.get("data", [told.body]):
                if batch["batch_id"] == "batch-1" and batch["status"] == outcome and next(looks, None) is not None:
                    batch["request_counts"] = {**batch["request_counts"], "completed": 0}
            return told

        stub.on("GET", "/v1/batches(/batch-1)?", *[Instead(behind)] * MANY)
        stub.on("GET", "/v1/batches/batch-1/results", *[Reply(status, {"id": "x", "message": "not yet"})] * 5)
        assert "results.late" in done(stub, checkout(tmp_path, stub.url))

    @pytest.mark.slow
    def test_an_honest_batch_without_results_is_believed_after_a_while(self, stub: Stub, tmp_path: Path) -> None:
        def expired(seen: Seen) -> Reply:
            told = stub.answer(seen)
            stub.jobs[0].answers, stub.jobs[0].steps = {}, ["expired"]
            return told

        stub.on("POST", "/v1/batches", Instead(expired))
        stub.on("GET", "/v1/batches/batch-1/results", *[GONE] * MANY)
        events = done(stub, checkout(tmp_path, stub.url), SHARDS + 1)
        assert events.count("results.late") == 1


class TestInTheStore:
    """Results lie there without their summary, and the service has less by now."""

    @pytest.mark.parametrize("lost", ["summaries", "lockfile"])
    def test_what_lies_there_is_read_where_the_service_has_nothing(self, stub: Stub, tmp_path: Path, lost: str) -> None:
        root = checkout(tmp_path, stub.url)
        done(stub, root)
        without_summaries(root)
        (root / "out/told.jsonl").unlink()
        if lost == "lockfile":
            (root / "specs/told.lock").unlink()
        stub.jobs.clear()
        assert plan(root).submits == 0
        done(stub, root, 0)

    def test_it_is_the_least_that_there_is_afterwards(self, stub: Stub, tmp_path: Path) -> None:
        given = [slice(0, 1)]

        def part(seen: Seen) -> Reply:
            told = stub.answer(seen)
            whole = stub.blobs["batch-2.jsonl"]
            assert isinstance(whole, bytes)
            stub.blobs["batch-2.jsonl"] = b"".join(whole.splitlines(keepends=True)[given[0]])
            return told

        stub.on("GET", "/v1/batches/batch-2/results", *[Instead(part)] * MANY)
        root = checkout(tmp_path, stub.url)
        assert apply(root)[0].end == "failed"
        without_summaries(root)
        (root / "out/told.jsonl").unlink()
        given[0] = slice(0, 0)
        assert apply(root)[0].end == "failed"
        assert sum(text is None for text in texts(root)) == 1
        given[0] = slice(1, 2)
        without_summaries(root)
        done(stub, root)

    def test_rows_saved_from_an_output_are_read_again(self, stub: Stub, tmp_path: Path) -> None:
        root, lines = salvaged(stub, tmp_path, 3)
        assert len(list((root / ".batchspec").rglob("*.rows.jsonl"))) == SHARDS
        without_summaries(root)
        (root / "data/rows.jsonl").write_text("".join(lines))
        done(stub, root)

    def test_an_answer_that_does_not_fit_is_counted_among_rows_too(self, stub: Stub, tmp_path: Path) -> None:
        """It was paid for: asked again it would be paid for twice."""
        root = checkout(tmp_path, stub.url)
        spec = root / "specs/told.yaml"
        (root / "specs/told.json").write_text('{"type": "object"}')
        spec.write_text(spec.read_text() + "schema: specs/told.json\n")
        apply(root)
        assert [row["error"]["code"] for row in rows(root)] == ["invalid"] * ROWS
        shutil.rmtree(root / ".batchspec")
        stub.on("GET", "/v1/batches/batch-.*/results", *[GONE] * MANY)
        data = root / "data/rows.jsonl"
        lines = data.read_text().splitlines(keepends=True)
        data.write_text("".join(lines[:3]))
        apply(root)
        without_summaries(root)
        (root / "data/rows.jsonl").write_text("".join(lines))
        apply(root)
        assert [row["error"]["code"] for row in rows(root)] == ["invalid"] * ROWS
        assert len(stub.jobs) == SHARDS


class TestGone:
    """Once, the service did not know the batches: the key was another account's."""

    @pytest.fixture
    def root(self, stub: Stub, tmp_path: Path) -> Path:
        first = checkout(tmp_path / "one", stub.url)
        done(stub, first)
        root = another(first)
        jobs, stub.jobs = stub.jobs, []
        assert apply(root)[0].end == "failed"
        assert lock(root).count('"gone":true') == SHARDS
        stub.jobs = jobs
        return root

    @pytest.mark.parametrize("word", sampled([ApplyOptions(), ASK], 1), ids=["by itself", "before a word releases it"])
    def test_what_the_list_shows_is_looked_for_again(self, stub: Stub, root: Path, word: ApplyOptions) -> None:
        outcome, _ = apply(root, word)
        assert outcome.end == "succeeded"
        assert texts(root) == TEXTS
        assert len(stub.jobs) == SHARDS
        assert "gone" not in lock(root)

    def test_what_the_list_does_not_show_is_looked_for_before_it_is_released(self, stub: Stub, root: Path) -> None:
        stub.on("GET", "/v1/batches", *[Reply(200, {"object": "list", "data": [], "has_more": False})] * MANY)
        outcome, _ = apply(root, ASK)
        assert outcome.end == "succeeded"
        assert texts(root) == TEXTS
        assert len(stub.jobs) == SHARDS

    def test_nothing_is_released_where_the_look_fails(self, stub: Stub, root: Path) -> None:
        empty = Reply(200, {"object": "list", "data": [], "has_more": False})
        stub.on("GET", "/v1/batches", *[empty] * MANY)
        stub.on("GET", "/v1/batches/batch-2", *[Reply(400, {"id": "bad", "message": "not today"})] * MANY)
        outcome, _ = apply(root, ASK)
        assert "not today" in outcome.message
        assert len(stub.jobs) == SHARDS

    def test_what_is_gone_is_looked_for_once_and_changes_nothing(self, stub: Stub, root: Path) -> None:
        stub.on("GET", "/v1/batches/batch-.*/results", *[GONE] * MANY)
        before, calls = lock(root), len(stub.calls("GET", "/v1/batches/.*/results"))
        assert not plan(root).changes
        outcome, watcher = apply(root)
        assert outcome.end == "failed"
        assert "results.gone" not in [name for name, _ in watcher.events]
        assert lock(root) == before
        assert len(stub.calls("GET", "/v1/batches/.*/results")) == calls + 3 * SHARDS  # two plans and an apply
        assert apply(root, ASK)[0].end == "failed"
        assert len(stub.jobs) == 2 * SHARDS


class TestErrorFile:
    """The service names a file of errors that its storage does not have."""

    @pytest.fixture
    def named(self, stub: Stub) -> None:
        def results(seen: Seen) -> Reply:
            told = stub.answer(seen)
            url = stub.blob("none", b"")
            del stub.blobs["none"]
            return Reply(200, {**told.body, "error_file_url": url})

        stub.on("GET", "/v1/batches/batch-.*/results", *[Instead(results)] * MANY)

    @pytest.mark.usefixtures("named")
    @pytest.mark.parametrize("settling", [0.0, 600.0])
    def test_is_none_where_nothing_failed(
        self, stub: Stub, tmp_path: Path, settling: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", settling)
        root = checkout(tmp_path, stub.url)
        done(stub, root)
        assert "gone" not in lock(root)

    @pytest.mark.usefixtures("named")
    def test_that_is_missing_is_told_and_loses_no_answer(self, stub: Stub, tmp_path: Path) -> None:
        """One of batch-1's requests failed, and why can't be had: it is asked again, and its neighbour is kept."""

        def one_failed(seen: Seen) -> Reply:
            told = stub.answer(seen)
            job = stub.jobs[0]
            job.answers.pop(list(job.answers)[1])
            job.failures = ["one"]
            return told

        stub.on("POST", "/v1/batches", Instead(one_failed))
        root = checkout(tmp_path, stub.url)
        done(stub, root, SHARDS + 1)
        assert "gone" not in lock(root)
        assert any("batch-1 counts 1 failed requests and delivered 0 lines" in note for note in plan(root).notes)


@pytest.mark.parametrize(
    "order", sampled([slice(None), slice(None, None, -1)], 1), ids=["same rows", "rows in another order"]
)
def test_a_batch_that_ended_and_is_said_to_run_is_waited_for(stub: Stub, tmp_path: Path, order: slice) -> None:
    """The lockfile says that it has completed; the machine that is asked is behind. Nothing is indexed by its word."""
    first = checkout(tmp_path / "one", stub.url)
    done(stub, first)
    root = another(first)
    data = root / "data/rows.jsonl"
    data.write_text("".join(data.read_text().splitlines(keepends=True)[order]))
    stub.jobs[0].status, stub.jobs[0].steps = "in_progress", ["in_progress"] * 12 + ["completed"]
    assert plan(root).submits == 0
    outcome, watcher = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert texts(root) == TEXTS[order]
    assert len(stub.jobs) == SHARDS
    assert "results.late" in [name for name, _ in watcher.events]


class TestMixedUp:
    """Two processes fetch one batch, and its lines come in another order each time."""

    def test_an_index_of_another_files_lines_is_damage(self, stub: Stub, tmp_path: Path) -> None:
        root = checkout(tmp_path, stub.url)
        done(stub, root)
        [raw] = (root / ".batchspec").rglob("batch-2.output.jsonl")
        raw.write_bytes(b"".join(reversed(raw.read_bytes().splitlines(keepends=True))))
        (root / "out/told.jsonl").unlink()
        outcome, _ = apply(root)
        assert outcome.codes == ("BS410",)
        assert "batch-2.summary.json" in outcome.message
        next((root / ".batchspec").rglob("batch-2.summary.json")).unlink()
        done(stub, root)

    def test_a_saved_row_of_another_request_is_damage(self, stub: Stub, tmp_path: Path) -> None:
        root, lines = salvaged(stub, tmp_path, -1)
        [saved] = (root / ".batchspec").rglob("batch-1.rows.jsonl")
        saved.write_bytes(b"".join(reversed(saved.read_bytes().splitlines(keepends=True))))
        (root / "data/rows.jsonl").write_text("".join(lines))
        assert apply(root)[0].codes == ("BS410",)

    def test_who_comes_second_leaves_what_is_whole(self, stub: Stub, tmp_path: Path) -> None:
        root = checkout(tmp_path, stub.url)
        done(stub, root)

        def reversed_lines(seen: Seen) -> Reply:
            told = stub.answer(seen)
            whole = stub.blobs["batch-2.jsonl"]
            assert isinstance(whole, bytes)
            stub.blobs["batch-2.jsonl"] = b"".join(reversed(whole.splitlines(keepends=True)))
            return told

        stub.on("GET", "/v1/batches/batch-2/results", Instead(reversed_lines))
        with service(root) as (api, realm):
            before = realm.results.raw("batch-2")[0].read_bytes()
            held = realm.results.load("batch-2")
            assert fetch(api, realm.results, api.get_batch("batch-2"), CustomIdMap()) == held
            assert realm.results.raw("batch-2")[0].read_bytes() == before

    def test_each_is_alone_with_the_files(self, stub: Stub, tmp_path: Path) -> None:
        with service(checkout(tmp_path, stub.url)) as (_, realm), realm.results.locked("batch-2"):
            [path] = realm.results.folder.glob(".lock-*")
            with path.open("ab") as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_row_that_an_earlier_version_took_for_an_answer_fails_and_is_not_asked_again(
    stub: Stub, tmp_path: Path
) -> None:
    """Its index is read again from the store, the plan counts it and writes the output anew; then nothing is left."""
    root = checkout(tmp_path, stub.url)
    done(stub, root)
    results = next(path for path in (root / ".batchspec").rglob("*.output.jsonl"))
    line = json.loads(results.read_text().splitlines()[0])
    body = line["response"].get("body", line["response"])
    body["choices"][0]["message"]["content"] = None
    body["choices"][0]["finish_reason"] = "length"
    results.write_text("\n".join([json.dumps(line), *results.read_text().splitlines()[1:], ""]))
    for path in (root / ".batchspec").rglob("*.summary.json"):
        summary = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in summary.items() if name != "reading"}))
    output, lockfile = root / "out/told.jsonl", root / "specs/told.lock"
    old = [{**row, "text": None} if row["request"] == line["custom_id"] else row for row in rows(root)]
    before = sha256_file(output)
    output.write_text("".join(json.dumps(row) + "\n" for row in old))
    lockfile.write_text(lock(root).replace(before, sha256_file(output)))
    job = plan(root)
    assert (job.tally.failed, job.submits) == (1, 0)
    assert apply(root)[0].end == "failed"
    assert len(stub.jobs) == SHARDS
    found = {row["request"]: row for row in rows(root)}[line["custom_id"]]
    assert (found["text"], found["error"]["code"], found["finish_reason"]) == (None, "no_text", "length")
    assert not plan(root).actions
