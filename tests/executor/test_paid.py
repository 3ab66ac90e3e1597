"""What an apply says it paid is what it submitted itself; and nothing is paid for that could not be written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from runner.executor import lockfile_writer
from runner.reconciler.observe.observe import ApplyOptions
from tests.executor.conftest import Team, ends

Make = Callable[..., Team]
LIMIT = "parameters: {max_tokens: 20}"


def test_a_rename_costs_nothing_again(team: Make) -> None:
    one = team()
    [first] = one.apply()
    assert first.cost is not None
    one.write("specs/job.yaml", (one.root / "specs/job.yaml").read_text().replace("name: job", "name: new", 1))
    one.write("specs/job.yaml", (one.root / "specs/job.yaml").read_text() + "moved: {from: job}\n")
    [second] = one.apply()
    assert (second.end, second.submitted, second.cost, second.earlier) == ("succeeded", 0, None, None)


def test_asking_again_what_failed_costs_what_was_asked_again(team: Make) -> None:
    one = team()
    one.spec("job", "retry: {rounds: 1}", LIMIT)
    one.rows("one", "two", "fail " + "many words " * 70_000)
    [first] = one.apply()
    assert ends([first]) == ["failed"]
    word = ApplyOptions(retry_failed=frozenset({"job"}))
    estimate = one.plan(word).jobs[0].estimate
    [second] = one.apply(word)
    assert (second.submitted, second.at_most) == (1, False)
    assert estimate is not None
    assert second.expected == estimate.expected


def test_what_came_in_of_an_earlier_apply_is_told_apart(team: Make) -> None:
    one = team()
    one.apply(waiting=False)
    one.rows("one", "two", "three", "four")
    [outcome] = one.apply()
    assert outcome.submitted == 1
    lines = {line["requests"]: line["cost"] for line in one.lines("batch")}
    assert outcome.cost is not None
    assert outcome.earlier is not None
    assert (float(outcome.cost), float(outcome.earlier)) == (lines[1], lines[3])


def test_a_limit_is_the_plan_s_own_over_any_number_of_batches(team: Make) -> None:
    """Rounding each batch would make the sum another than the plan's."""
    one = team()
    one.spec("job", LIMIT, "shards: {max_requests: 1}")
    estimate = one.plan().jobs[0].estimate
    [outcome] = one.apply()
    assert estimate is not None
    assert (outcome.expected, outcome.at_most) == (estimate.ceiling, True)


def in_the_place_of_the_output(one: Team) -> None:
    (one.root / "out/job.jsonl").mkdir(parents=True)


def in_the_place_of_the_outputs_folder(one: Team) -> None:
    one.write("out", "a file")


def in_the_place_of_the_failed_rows(one: Team) -> None:
    one.spec("job")
    spec = one.root / "specs/job.yaml"
    spec.write_text(spec.read_text().replace("out/job.jsonl}", "out/job.jsonl, errors: bad/job.jsonl}"))
    one.write("bad", "a file")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(in_the_place_of_the_output, "the output out/job.jsonl can't be written: it is a folder"),
        pytest.param(in_the_place_of_the_outputs_folder, "the output out/job.jsonl can't be written: out is not a"),
        pytest.param(in_the_place_of_the_failed_rows, "the file of failed rows bad/job.jsonl can't be written: bad is"),
    ],
)
def test_nothing_is_paid_for_that_could_not_be_written(team: Make, spoil: Callable[[Team], None], said: str) -> None:
    one = team()
    spoil(one)
    [outcome] = one.apply()
    assert (outcome.end, outcome.submitted, outcome.codes) == ("error", 0, ("BS411",))
    assert said in outcome.message
    assert "nothing more was submitted" in outcome.message
    assert one.remote() == []


@dataclass
class Spoiler(Team):
    """Puts a folder in the lockfile's place once a batch is out."""

    def event(self, name: str, **fields: object) -> None:
        super().event(name, **fields)
        path = self.root / "specs/job.lock"
        if name == "batch.submitted" and path.is_file():
            path.unlink()
            path.mkdir()


@pytest.mark.slow
def test_what_went_out_is_counted_where_it_can_not_be_written_down(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that were under way when the lockfile was refused are submitted too, and no further ones."""
    monkeypatch.setattr(lockfile_writer, "INTERVAL", 0.0)
    made = team()
    one = Spoiler(made.root, made.url)
    one.rows(*(f"text {number}" for number in range(40)))
    one.spec("job", "shards: {max_requests: 1}")
    [outcome] = one.apply()
    assert outcome.end == "error"
    assert outcome.submitted == len(one.remote()) < 40
    (one.root / "specs/job.lock").rmdir()
    [outcome] = made.apply()
    assert outcome.end == "succeeded"
    assert len(one.remote()) == 40
