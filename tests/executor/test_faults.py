"""The service in trouble: every fault alone, in pairs, and two applies at once. Nothing is paid for twice."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from runner.reconciler.observe.observe import ApplyOptions
from runner.service import BackgroundService, ServiceConfig
from tests.cli_runner import cli_path
from tests.executor.story import ENVIRON, FAULTS, ROWS, SHARD, TEXTS, Books, checkout, pairs, plan, story
from tests.providers.stub import KEY
from tests.sampling import chosen, sampled

SHARDS = ROWS // SHARD
RETRIED = {"fail-requests", "expire-half", "fail-half", "fail-job"}
"""After these one more batch goes out, with what was not answered."""
LOST = {"missing-lines": 1, "garbled-lines": 1, "results-gone": SHARD}
"""What these take never comes back: so many answers are paid for and can't be read."""
OFTEN = ("lost-create", "unheard-create", "expire-half", "fail-half", "fail-job")
"""Faults of `make test`; `make test-slow` has the others."""
ASK = ApplyOptions(ask_unknown=frozenset({"told"}))


@pytest.mark.parametrize("fault", chosen((fault for fault in FAULTS if fault not in LOST), *OFTEN))
def test_one_fault_leaves_a_complete_output(fault: str, tmp_path: Path) -> None:
    """In one apply, unattended, with one batch a shard and one more where something is to be asked again."""
    with story(tmp_path, [fault]) as told:
        assert told.apply() == "succeeded", told.outcome.message
        assert told.wrong() == []
        assert told.books.batches == SHARDS + (fault in RETRIED)
        assert len(told.books.answers) == ROWS
        assert not plan(told.root).changes


@pytest.mark.parametrize("fault", chosen(LOST, "missing-lines"))
def test_an_answer_that_is_lost_is_reported_and_asked_again_for_a_persons_word_only(fault: str, tmp_path: Path) -> None:
    with story(tmp_path, [fault]) as told:
        told.go_on()
        assert told.apply() == "failed"
        assert told.wrong() == []
        lost = [row["request"] for row in told.rows if row["error"]]
        assert [row["error"]["code"] for row in told.rows if row["error"]] == ["unknown"] * LOST[fault]
        assert told.books.batches == SHARDS
        assert told.apply(ASK) == "succeeded", told.outcome.message
        assert told.complete
        assert told.books.batches == SHARDS + 1
        assert told.books.twice == set(lost)


@pytest.mark.parametrize("fault", chosen(LOST, "results-gone"))
def test_an_answer_to_a_retry_that_is_lost_was_paid_for_too(fault: str, tmp_path: Path) -> None:
    """The error of the first round must not be taken for how it stands."""
    with story(tmp_path, [f"fail-requests={SHARD}", f"{fault}=@{SHARDS + 1}"]) as told:
        told.go_on()
        told.apply()
        assert told.wrong() == []
        assert told.books.batches == SHARDS + 1
        assert [row["error"]["code"] for row in told.rows if row["error"]] == ["unknown"] * LOST[fault]


@pytest.mark.slow
def test_a_job_that_never_begins_is_asked_again_when_it_has_expired(tmp_path: Path) -> None:
    with story(tmp_path, ["stuck-validating=1"], completion_window=1.0) as told:
        # The others may be as late as that on a busy machine; what they lack goes into a further round.
        assert told.go_on() == "succeeded", told.outcome.message
        assert told.wrong() == []


@pytest.mark.slow
def test_everything_at_once(tmp_path: Path) -> None:
    """Whatever the end is, it is honest, and nothing is paid for twice."""
    with story(tmp_path, [f"{fault}=30%" for fault in FAULTS if fault not in {"slow", "stuck-validating"}]) as told:
        told.go_on(8)
        assert told.wrong() == []


@pytest.mark.parametrize(("first", "second"), sampled(random.Random(20261124).sample(list(pairs(1)), 12), 4))
def test_two_faults(first: str, second: str, tmp_path: Path) -> None:
    """A sample; `make crash` tries all pairs."""
    with story(tmp_path, (first, second)) as told:
        told.go_on()
        assert told.wrong() == []


@pytest.mark.parametrize(
    "faults",
    [pytest.param((), marks=pytest.mark.slow), ("lost-create=2", "slow=50%:0.05")],
    ids=["quiet", "lost creates"],
)
@pytest.mark.parametrize("checkouts", [1, 2], ids=["one checkout", "two checkouts"])
def test_two_applies_at_once_make_one_batch_a_shard(
    checkouts: int, faults: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    with BackgroundService.start(ServiceConfig(data=tmp_path / "data", tokens=(KEY,), faults=faults)) as service:
        roots = [checkout(tmp_path / f"checkout{n % checkouts}", service.url) for n in range(2)]
        running = [
            subprocess.Popen(
                [cli_path(), "apply", "--yes"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for root in roots
        ]
        said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    books = Books.of(tmp_path / "data")
    assert books.batches == SHARDS
    assert books.twice == set()
    for root in roots:
        assert [json.loads(line)["text"] for line in (root / "out/told.jsonl").read_text().splitlines()] == TEXTS
    lockfiles = {(root / "specs/told.lock").read_text().count('"batch":') for root in roots}
    assert lockfiles == {SHARDS}
