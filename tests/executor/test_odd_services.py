"""Services that answer late, in another order or not for long: nothing is paid for twice, lost, or waited for in vain."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

import runner
from runner.api import open_project
from runner.reconciler.observe.consistency import CONSISTENCY_WINDOW
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan import Plan
from runner.state.ledger import Create, Ledger
from runner.views.plan_text import explain
from tests.executor.story import ENVIRON, ROWS, SHARD, TEXTS, Clock, Watcher, apply, checkout, plan, texts
from tests.providers.stub import Stub
from tests.providers.stub_steps import Instead, Lost, Reply, Seen

SHARDS = ROWS // SHARD
MANY = 10_000
ASK = ApplyOptions(ask_unknown=frozenset({"told"}))


@pytest.fixture
def nameless() -> Iterator[Stub]:
    """The guide's service, and one that takes no notice of keys: nothing of a batch tells whose it is."""
    with Stub("guide") as running:
        running.keys = False
        yield running


@pytest.fixture(autouse=True)
def _as_in_life(monkeypatch: pytest.MonkeyPatch, _settled_at_once: None) -> None:
    monkeypatch.setitem(CONSISTENCY_WINDOW, "digitalocean", 600.0)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, in seconds."""
    found: list[float] = []
    sleep = Clock.sleep

    def noted(self: Clock, seconds: float) -> None:
        found.append(seconds)
        sleep(self, seconds)

    monkeypatch.setattr(Clock, "sleep", noted)
    return found


def well(stub: Stub, root: Path) -> list[str]:
    """Apply once, which must do; what was told."""
    outcome, watcher = apply(root)
    assert outcome.end == "succeeded", outcome.message
    assert texts(root) == TEXTS
    assert len(stub.jobs) == SHARDS
    return [name for name, _ in watcher.events]


class TestWithoutKeys:
    @pytest.mark.parametrize("late", [0, 1], ids=["at once", "late"])
    def test_a_create_whose_answer_was_lost_is_found_by_its_file(
        self, nameless: Stub, tmp_path: Path, late: int
    ) -> None:
        """The list may show it some time after; it is given that time."""
        nameless.late = late
        nameless.on("POST", "/v1/batches", Lost(), Lost())
        well(nameless, checkout(tmp_path, nameless.url))

    def test_a_create_that_was_never_heard_is_sent_again_after_a_while(
        self, nameless: Stub, tmp_path: Path, naps: list[float]
    ) -> None:
        nameless.on("POST", "/v1/batches", Reply(503, {"id": "unavailable", "message": "back soon"}))
        assert "create.doubtful" in well(nameless, checkout(tmp_path, nameless.url))
        assert sum(naps) > 100

    def test_with_ledger_and_lockfile_lost_it_stops_and_names_what_to_do(self, nameless: Stub, tmp_path: Path) -> None:
        well(nameless, checkout(tmp_path / "one", nameless.url))
        fresh = checkout(tmp_path / "two", nameless.url)
        outcome, _ = apply(fresh)
        assert outcome.end == "error"
        assert len(nameless.jobs) == SHARDS
        for words in ("batch-3, batch-2, batch-1", "import told BATCH --requests FILE", "--ask-unknown told"):
            assert words in outcome.message
        assert apply(fresh, ASK)[0].end == "succeeded"
        assert len(nameless.jobs) == 2 * SHARDS


def test_a_batch_that_shows_late_is_not_taken_for_gone(stub: Stub, tmp_path: Path) -> None:
    """Neither the list nor a look at the batch itself knows it yet."""
    stub.late = 6
    events = well(stub, checkout(tmp_path, stub.url))
    assert "results.gone" not in events
    assert "batch.missing" in events, "it is said at once that the service does not know it"


def test_a_batch_that_was_taken_for_gone_and_shows_after_all_is_used(stub: Stub, tmp_path: Path) -> None:
    root = checkout(tmp_path, stub.url)
    stub.steps, stub.outcome = ["validating"], "in_progress"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONSISTENCY_WINDOW, "digitalocean", 0.0)
        stub.late = MANY
        assert apply(root)[0].end == "failed"
    assert '"gone":true' in (root / "specs/told.lock").read_text()
    for job in stub.jobs:
        job.hidden, job.steps = 0, ["completed"]
    assert well(stub, root)
    assert "gone" not in (root / "specs/told.lock").read_text()


def test_what_a_running_batch_does_not_hold_is_planned_before_that_shows(stub: Stub, tmp_path: Path) -> None:
    """Another checkout has a new first row, and can't tell what batches hold that were cut without it."""
    well(stub, checkout(tmp_path / "one", stub.url))
    for job in stub.jobs:
        job.status, job.steps = "in_progress", ["in_progress"] * 8 + ["completed"]
    two = checkout(tmp_path / "two", stub.url)
    rows = two / "data/rows.jsonl"
    rows.write_text('{"id": 99, "text": "number 99"}\n' + rows.read_text())
    seen = plan(two)
    assert (seen.submits, seen.unseen) == (0, ROWS + 1)
    assert seen.estimate is not None
    assert (seen.estimate.requests, seen.estimate.most_requests) == (0, ROWS + 1)
    told = explain(Plan((seen,)))
    assert f"of {ROWS + 1} in flight, any that the batch lacks are submitted when it ends, and paid once" in told
    assert f"Plan: 0 to submit, up to {ROWS + 1} when batches have ended, 0 reused" in told
    outcome, _ = apply(two)
    assert outcome.end == "succeeded", outcome.message
    assert texts(two) == ["Say number 99.", *TEXTS]
    assert len(stub.jobs) == SHARDS + 1


@pytest.mark.parametrize("status", [404, 412])
def test_results_that_come_late_are_waited_for(stub: Stub, tmp_path: Path, status: int, naps: list[float]) -> None:
    """A batch has completed, and its results can't be had for some minutes."""
    late = Reply(status, {"id": "not_yet", "message": "come back later"})
    stub.on("GET", "/v1/batches/batch-2/results", *[late] * 12)
    events = well(stub, checkout(tmp_path, stub.url))
    assert events.count("results.late") == 1
    assert max(naps) <= 60


@pytest.mark.slow
def test_results_that_never_come_end_in_a_report_and_cost_nothing(stub: Stub, tmp_path: Path) -> None:
    stub.on("GET", "/v1/batches/batch-2/results", *[Reply(412, {"id": "x", "message": "not yet"})] * MANY)
    root = checkout(tmp_path, stub.url)
    outcome, _ = apply(root)
    assert outcome.end == "error"
    assert "not yet" in outcome.message
    assert len(stub.jobs) == SHARDS
    assert (root / "specs/told.lock").read_text().count('"state":"completed"') == SHARDS - 1


@pytest.mark.parametrize("then", [[], ["cut"]], ids=["gone", "shorter"])
def test_what_came_first_of_short_results_is_kept_where_less_comes_after(
    stub: Stub, tmp_path: Path, then: list[str]
) -> None:
    """Results lack a line; asked for once more they are not there any more, or lack all."""
    stub.on("GET", "/v1/batches/batch-2/results", Instead(partial(_short, stub, 1)))
    if then:
        stub.on("GET", "/v1/batches/batch-2/results", Instead(partial(_short, stub, 0)))
    stub.on("GET", "/v1/batches/batch-2/results", *[Reply(404, {"id": "not_found", "message": "gone"})] * MANY)
    root = checkout(tmp_path, stub.url)
    outcome, _ = apply(root)
    assert outcome.end == "failed"
    missing = [text for text, found in zip(TEXTS, texts(root), strict=True) if found != text]
    assert len(missing) == 1
    assert len(stub.jobs) == SHARDS


def test_short_results_that_differ_are_put_together(stub: Stub, tmp_path: Path) -> None:
    """The first line comes first, without its end, and the other one when it is asked for once more."""
    stub.on("GET", "/v1/batches/batch-2/results", Instead(partial(_part, stub, slice(0, 1))))
    stub.on("GET", "/v1/batches/batch-2/results", Instead(partial(_part, stub, slice(1, None))))
    stub.on("GET", "/v1/batches/batch-2/results", *[Reply(404, {"id": "not_found", "message": "gone"})] * MANY)
    well(stub, checkout(tmp_path, stub.url))


def test_rows_of_a_changed_output_are_kept_where_results_come_short(stub: Stub, tmp_path: Path) -> None:
    """Line ends were changed in it, so it is not what was recorded; and the service has lost a line since."""
    root = checkout(tmp_path, stub.url)
    apply(root)
    shutil.rmtree(root / ".batchspec")
    output = root / "out/told.jsonl"
    changed = output.read_bytes().replace(b"\n", b"\r\n")
    output.write_bytes(changed)
    stub.on("GET", "/v1/batches/batch-2/results", *[Instead(partial(_short, stub, 1))] * MANY)
    assert apply(root)[0].end == "failed"
    [kept] = (root / ".batchspec").rglob("kept/*")
    assert kept.read_bytes() == changed


def test_a_row_whose_answer_the_output_holds_alone_is_kept_when_it_leaves(stub: Stub, tmp_path: Path) -> None:
    """Results came short of it when they were fetched again; it is there when the row comes back."""
    root = checkout(tmp_path, stub.url)
    apply(root)
    shutil.rmtree(root / ".batchspec")
    stub.on("GET", "/v1/batches/batch-2/results", *[Instead(partial(_short, stub, 1))] * MANY)
    left = list(stub.jobs[1].answers.values())[-1]
    rows = root / "data/rows.jsonl"
    whole = rows.read_text()
    said = left.removeprefix("Say ").removesuffix(".")
    rows.write_text("".join(f"{line}\n" for line in whole.splitlines() if f'"{said}"' not in line))
    assert apply(root)[0].end == "succeeded"
    assert texts(root) == [text for text in TEXTS if text != left]
    rows.write_text(whole)
    assert apply(root)[0].end == "succeeded"
    assert texts(root) == TEXTS
    assert len(stub.jobs) == SHARDS


def test_results_that_another_process_is_writing_are_waited_for(stub: Stub, tmp_path: Path) -> None:
    """For a moment neither their summary is there nor their lines, of which a new one would be made."""
    root = checkout(tmp_path, stub.url)
    away = root / "away"
    away.mkdir()

    class Beside(Watcher):
        def event(self, name: str, **fields: object) -> None:
            super().event(name, **fields)
            if name == "batch.fetched" and fields["batch"] == "batch-2":
                # Not by looking through folders, which other threads make and remove.
                [self.place] = root.glob(".batchspec/store/*/results")
                for file in ("batch-2.summary.json", "batch-2.output.jsonl"):
                    (self.place / file).rename(away / file)

    clock, watcher = Clock(), Beside()

    def sleep(seconds: float) -> None:
        for file in away.iterdir():
            assert not (root / "out/told.jsonl").exists()
            file.rename(watcher.place / file.name)
        clock.sleep(seconds)

    with open_project(runner.load(root=root), watcher=watcher, environ=ENVIRON, jobs=1, now=clock.now) as opened:
        opened.context.sleep = sleep
        [outcome] = opened.apply(opened.plan(opened.context.project.jobs))
    assert outcome.end == "succeeded", outcome.message
    assert texts(root) == TEXTS
    assert "results.late" in [name for name, _ in watcher.events]


def _short(stub: Stub, lines: int, seen: Seen) -> Reply:
    """Results of the second batch, with so many lines."""
    return _part(stub, slice(0, lines), seen)


def _part(stub: Stub, lines: slice, seen: Seen) -> Reply:
    """Results of the second batch, with these of their lines."""
    told = stub.answer(seen)
    name = f"{seen.path.split('/')[3]}.jsonl"
    whole = stub.blobs[name]
    assert isinstance(whole, bytes)
    stub.blobs[name] = b"\n".join(whole.splitlines()[lines])
    return told


def test_what_the_list_says_of_an_expired_batch_is_not_believed_where_the_batch_says_more(
    stub: Stub, tmp_path: Path
) -> None:
    """The list is behind: it counts nothing, and the batch itself counts what was answered."""
    stub.outcome = "expired"

    def behind(seen: Seen) -> Reply:
        told = stub.answer(seen)
        for batch in told.body["data"]:
            batch["request_counts"] = {"total": batch["request_counts"]["total"], "completed": 0, "failed": 0}
        return told

    stub.on("GET", "/v1/batches", *[Instead(behind)] * MANY)
    stub.on("GET", "/v1/batches/batch-1/results", *[Reply(412, {"id": "x", "message": "not yet"})] * 5)
    well(stub, checkout(tmp_path, stub.url))


def test_a_batch_that_is_behind_its_own_end_is_waited_for(stub: Stub, tmp_path: Path) -> None:
    """The list says that it has expired, and a look at the batch itself says for a while that it still runs."""
    stub.outcome = "expired"

    def running(seen: Seen) -> Reply:
        told = stub.answer(seen)
        return Reply(told.status, {**told.body, "status": "in_progress"}, told.headers)

    stub.on("GET", "/v1/batches/batch-.", *[Instead(running)] * 4)
    well(stub, checkout(tmp_path, stub.url))


def test_a_list_in_another_order_hides_nothing(stub: Stub, tmp_path: Path) -> None:
    """Batches of long ago come first; the ones of today are adopted all the same."""
    well(stub, checkout(tmp_path / "one", stub.url))
    year = datetime.now(UTC) - timedelta(days=365)

    def oldest_first(seen: Seen) -> Reply:
        told = stub.answer(seen)
        data = told.body["data"]
        old = [
            {**data[0], "batch_id": f"old-{n}", "request_id": f"r-{n}", "metadata": None,
             "created_at": (year + timedelta(days=n)).isoformat()}
            for n in range(30)
        ]  # fmt: skip
        return Reply(200, {**told.body, "data": [*old, *reversed(data)]}, told.headers)

    stub.on("GET", "/v1/batches", *[Instead(oldest_first)] * MANY)
    well(stub, checkout(tmp_path / "two", stub.url))


def test_a_rate_limit_is_waited_for_without_the_lock(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the service asks for, and somebody else may write meanwhile."""
    root = checkout(tmp_path, stub.url)
    limited = Reply(429, {"id": "too_many_requests", "message": "slow down"}, {"retry-after": "1000"})
    stub.on("POST", "/v1/batches", limited)
    asleep: list[float] = []
    sleep = Clock.sleep

    def watched(self: Clock, seconds: float) -> None:
        if seconds > 20:
            with FileLock(root / ".batchspec/locks/specs--told.lock", timeout=0):
                asleep.append(seconds)
        sleep(self, seconds)

    monkeypatch.setattr(Clock, "sleep", watched)
    well(stub, root)
    assert max(asleep) >= 1000


def test_a_clock_that_was_wrong_does_not_hold_a_job_up_for_ever(stub: Stub, tmp_path: Path, naps: list[float]) -> None:
    """An intent of next year stands in the ledger, of a shard that is not wanted any more."""
    root = checkout(tmp_path, stub.url)
    ledger = Ledger(root / ".batchspec/ledger.db")
    at = datetime.now(UTC) + timedelta(days=365)
    ledger.create_intended(
        Create(
            f"digitalocean:{stub.url}", "r", "told", "a" * 64, "f", 1, 1, attempt=1, round=1,
            state="intended", batch_id=None, at=at,
        )
    )  # fmt: skip
    ledger.close()
    assert "create.doubtful" in well(stub, root)
    assert sum(naps) < 400


Answers = Callable[[Seen], Reply]


def test_a_state_that_nobody_knows_counts_as_running(stub: Stub, tmp_path: Path) -> None:
    stub.steps = ["validating", "warming_up", "archiving"]
    well(stub, checkout(tmp_path, stub.url))


def test_a_second_plan_has_nothing_to_do_after_all_that(stub: Stub, tmp_path: Path) -> None:
    root = checkout(tmp_path, stub.url)
    stub.late = 4
    well(stub, root)
    assert not plan(root).changes
