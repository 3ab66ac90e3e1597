"""Outputs that hold the last copy of paid answers: the store is gone, and the service has forgotten the results."""

from __future__ import annotations

import csv
import json

import pytest

from runner.reconciler.plan.plan import Write
from tests.executor.last_copies import ASK, SPEC, Make, asked, forget, forgotten, texts
from tests.sampling import sampled


@pytest.mark.parametrize(
    "output",
    sampled(
        [
            "{path: out/job.jsonl}",
            "{path: out/job.jsonl.gz}",
            "{path: out/job.jsonl.zst}",
            "{path: out/job.csv}",
            "{path: out/job.csv.gz}",
            "{path: out/job.parquet}",
            "{path: out/job.csv, include: [text, usage, error, request, batch, row.text]}",
            "{path: out/job.jsonl, include: [request, text, error, batch]}",
        ],
        3,
    ),
)
def test_answers_are_taken_over_from_it(team: Make, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    one = team()
    path = forgotten(one, monkeypatch, output)
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4
    # They stand in the store now, so the file may go.
    path.unlink()
    assert one.apply()[0].end == "succeeded"
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


@pytest.mark.parametrize("later", sampled(["out/new/job.jsonl", "out/job.csv", "out/job.jsonl.gz"], 1))
def test_a_job_that_is_written_elsewhere_reads_its_output_of_before(
    team: Make, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    before = path.read_bytes()
    one.write("specs/job.yaml", SPEC % f"{{path: {later}}}")
    [planned] = one.plan().jobs
    assert any("are read from out/job.jsonl" in note for note in planned.notes)
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(one.root / later) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert path.read_bytes() == before
    assert asked(one) == 4


def test_answers_of_one_batch_in_two_outputs_are_put_together(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older one holds more of the batch, and not all that the one of now holds."""
    one = team()
    one.rows("one", "two", "three", "four")
    one.apply()
    one.rows("one", "two", "three")
    one.apply()
    one.write("data/rows.jsonl", '{"id": 4, "text": "four"}\n')
    one.write("specs/job.yaml", SPEC % "{path: new/job.jsonl}")
    one.apply()
    forget(one, monkeypatch)
    one.rows("one", "two", "three", "four")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(one.root / "new/job.jsonl") == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


def test_a_carriage_return_in_a_cell_loses_no_answer(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """To csv's readers it ends a line, wherever it is not quoted."""
    one = team()
    one.rows("one", "two", "a\rb")
    path = forgotten(one, monkeypatch, "{path: out/job.csv}")
    one.rows("one", "two", "a\rb", "four")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    with path.open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["Say one.", "Say two.", "Say a\rb.", "Say four."]
    assert asked(one) == 4


@pytest.mark.slow
def test_an_output_whose_format_changes_in_place_is_read_as_what_it_is(
    team: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    one.write("specs/job.yaml", SPEC % "{path: out/job.jsonl, format: csv}")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    rows = csv.DictReader(path.read_text().splitlines())
    assert [row["text"] for row in rows] == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


@pytest.mark.slow
def test_a_job_whose_spec_file_is_renamed_keeps_the_answers_in_its_output(
    team: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    (one.root / "specs/job.yaml").rename(one.root / "specs/other.yaml")
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


def test_an_output_that_was_moved_along_is_known_by_its_bytes(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that was moved and changed is not ours any more: nothing is taken from it, and nothing asked again."""
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    moved = path.with_name("moved.jsonl")
    path.rename(moved)
    one.write("specs/job.yaml", SPEC % "{path: out/moved.jsonl}")
    data = moved.read_bytes()
    moved.write_bytes(data.replace(b"Say two", b"Say too"))
    assert one.plan().jobs[0].tally.unknown == 4
    moved.write_bytes(data)
    [outcome] = one.apply()
    assert outcome.end == "succeeded", outcome.message
    assert texts(moved) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 4


@pytest.mark.slow
def test_a_recorded_path_that_leads_out_of_the_project_is_not_read(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.jsonl}")
    outside = one.root.parent / "outside.jsonl"
    path.rename(outside)
    lock = one.root / "specs/job.lock"
    lock.write_text(lock.read_text().replace('"output":"out/job.jsonl"', '"output":"../outside.jsonl"'))
    assert one.plan().jobs[0].tally.unknown == 4
    outside.rename(one.root / "inside.jsonl")
    lock.write_text(lock.read_text().replace('"output":"../outside.jsonl"', '"output":"inside.jsonl"'))
    assert one.plan().jobs[0].tally.unknown == 0


@pytest.mark.parametrize(
    "output", sampled(["{path: out/job.jsonl, include: [text]}", "{path: out/job.csv, include: [text]}"], 1)
)
def test_one_that_can_not_be_taken_over_is_not_overwritten_with_less(
    team: Make, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """It says so, every time, until a person decides. The new row may have been asked too, for all that is known."""
    one = team()
    path = forgotten(one, monkeypatch, output)
    before = path.read_bytes()
    for _ in range(2):
        [outcome] = one.apply()
        assert outcome.end == "error"
        assert "it holds the only copy of up to 4 answers" in outcome.message
        assert "--ask-unknown job" in outcome.message
        assert path.read_bytes() == before
        [planned] = one.plan().jobs
        assert any("is not overwritten, and `apply` stops there" in note for note in planned.notes)
        assert not any(isinstance(action, Write) for action in planned.actions)
    assert asked(one) == 3
    one.apply(ASK)
    assert texts(path) == ["Say one.", "Say two.", "Say three.", "Say four."]
    assert asked(one) == 7
    [kept] = (one.root / ".batchspec/store").rglob("kept/*")
    assert kept.read_bytes() == before


def test_one_that_was_moved_away_is_written_with_what_there_is(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    one = team()
    path = forgotten(one, monkeypatch, "{path: out/job.csv, include: [text]}")
    path.rename(one.root / "kept.csv")
    assert one.apply()[0].end == "failed"
    assert texts(path) == ["", "", "", ""]
    assert asked(one) == 3


def test_the_plan_says_that_a_foreign_file_is_copied_aside(team: Make) -> None:
    one = team()
    one.write("out/job.jsonl", json.dumps({"id": 1, "text": "precious", "batch": "other"}) + "\n")
    assert any("a copy of out/job.jsonl is kept" in note for note in one.plan().jobs[0].notes)


@pytest.mark.parametrize("damage", sampled([b"", b'{"custom_id": "k1-'], 1), ids=["cut short", "garbled"])
def test_damaged_results_are_told_and_never_written_as_rows(team: Make, damage: bytes) -> None:
    """The store's raw file is not what was indexed: nothing is written from it, and the hint makes it whole."""
    job = team()
    job.apply()
    want = job.output()
    [raw] = (job.root / ".batchspec").rglob("*.output.jsonl")
    data = raw.read_bytes()
    raw.write_bytes(damage.ljust(len(data), b" ") if damage else data[: len(data) // 4])
    (job.root / "out/job.jsonl").unlink()
    [outcome] = job.apply()
    assert (outcome.end, outcome.submitted, outcome.codes) == ("error", 0, ("BS410",))
    assert not (job.root / "out/job.jsonl").exists()
    name = raw.name.replace("output.jsonl", "summary.json")
    assert f"remove {name} there" in outcome.message
    raw.with_name(name).unlink()
    [outcome] = job.apply()
    assert (outcome.end, outcome.submitted, job.output()) == ("succeeded", 0, want)
    assert len(job.remote()) == 1
