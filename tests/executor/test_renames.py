"""Jobs that are renamed, moved, split into a matrix or removed: answers are kept, and nothing is paid twice."""

from __future__ import annotations

import shutil

import pytest

from runner.reconciler.observe.observe import ApplyOptions
from tests.executor.conftest import ends
from tests.executor.reconciling import Make, asked, forget_results


@pytest.mark.slow
def test_a_job_that_becomes_a_matrix_keeps_its_answers(team: Make) -> None:
    """And so does a matrix that gets another axis."""
    one = team()
    common = "parameters: {temperature: 0}"
    one.spec("job", common)
    one.apply()
    plain = (one.root / "specs/job.yaml").read_text().replace("out/job.jsonl", "'out/{{ address }}.jsonl'")
    models = plain.replace("model: gpt-4o-mini\n", "matrix: {model: [gpt-4o-mini, gpt-4o]}\n")
    one.write("specs/job.yaml", models)
    notes = [note for job in one.plan().jobs for note in job.notes if "no spec has now" in note]
    assert len(notes) == 1
    assert "with fewer axes, write `moved: {from: job, added: {model: gpt-4o-mini}}`" in notes[0]
    one.write("specs/job.yaml", f"{models}moved: {{from: job, added: {{model: gpt-4o-mini}}}}\n")
    assert [(job.address, job.submits, job.notes) for job in one.plan().jobs] == [
        ("job[model=gpt-4o-mini]", 0, ()),
        ("job[model=gpt-4o]", 3, ()),
    ]
    assert ends(one.apply()) == ["succeeded", "succeeded"]
    assert asked(one) == 6
    both = models.replace("gpt-4o]}", "gpt-4o], temperature: [0, 1]}").replace(f"{common}\n", "")
    one.write("specs/job.yaml", f"{both}moved: {{from: job, added: {{temperature: 0}}}}\n")
    assert {job.address: job.submits for job in one.plan().jobs} == {
        "job[model=gpt-4o,temperature=0]": 0,
        "job[model=gpt-4o,temperature=1]": 3,
        "job[model=gpt-4o-mini,temperature=0]": 0,
        "job[model=gpt-4o-mini,temperature=1]": 3,
    }
    one.apply()
    assert not one.plan().changes
    assert asked(one) == 12


def test_a_renamed_job_keeps_its_answers(team: Make) -> None:
    one = team()
    one.apply()
    shutil.move(one.root / "specs/job.yaml", one.root / "specs/new.yaml")
    shutil.move(one.root / "specs/job.lock", one.root / "specs/new.lock")
    one.spec("new", "moved: {from: job}")
    assert one.plan().jobs[0].submits == 0
    assert ends(one.apply()) == ["succeeded"]
    assert one.lines("moved", "specs/new.lock") == [{"moved": "new", "was": "job"}]
    # `moved` has done its work: without it, and after new answers, the old ones are still this job's.
    one.spec("new")
    assert not one.plan().changes
    one.rows("one", "two", "three", "four")
    one.apply()
    assert asked(one) == 4


def test_a_job_that_moves_to_another_file_keeps_its_answers(team: Make) -> None:
    one = team()
    one.apply()
    shutil.rmtree(one.root / ".batchspec")
    (one.root / "specs/job.yaml").unlink()
    one.spec(file="other")
    assert one.plan(offline=True).jobs[0].submits == 0
    one.apply()
    assert asked(one) == 3
    assert len(one.lines("batch", "specs/other.lock")) == 1


def test_a_job_that_left_is_left_alone_until_pruned(team: Make, service_url: str) -> None:
    one = team()
    one.spec("gone", output="gone")
    one.apply(waiting=False)
    # What it submitted may have ended by now; a line that says so comes with the next apply, so none is recorded here.
    lock = one.root / "specs/gone.lock"
    (one.root / "specs/gone.yaml").unlink()
    plan = one.plan()
    assert [job.address for job in plan.jobs] == ["job"]
    assert all(orphan.address == "gone" and not orphan.cancel for orphan in plan.orphans)
    before = lock.read_bytes()
    one.apply()
    assert lock.read_bytes() == before
    pruned = one.plan(ApplyOptions(prune=True))
    for orphan in pruned.orphans:
        assert orphan.cancel == orphan.running
    one.apply(ApplyOptions(prune=True))
    assert not one.plan().orphans


def test_prune_keeps_what_ended_by_itself(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spec left while its batch ran. What it answered was paid for, and is there when the spec comes back."""
    one = team()
    one.spec("gone", output="gone")
    one.apply(waiting=False)
    spec = (one.root / "specs/gone.yaml").read_text()
    (one.root / "specs/gone.yaml").unlink()
    while any(batch["status"] != "completed" for batch in one.remote()):
        pass
    [orphan] = one.plan().orphans
    assert (orphan.running, orphan.fetch, len(orphan.over)) == ((), (), 1)
    pruned = one.plan(ApplyOptions(prune=True))
    assert pruned.changes
    assert not pruned.cancels
    assert pruned.orphans[0].fetch == orphan.over
    one.apply(ApplyOptions(prune=True))
    assert not one.plan(ApplyOptions(prune=True)).orphans
    [line] = one.lines("batch", "specs/gone.lock")
    assert (line["state"], line["counts"]["completed"]) == ("completed", 3)
    forget_results(monkeypatch)
    one.write("specs/gone.yaml", spec)
    assert ends(one.apply()) == ["succeeded", "succeeded"]
    assert len(one.output("gone")) == 3
    assert asked(one) == 6


def test_salt_asks_everything_again(team: Make) -> None:
    one = team()
    one.apply()
    one.spec("job", "salt: again")
    assert one.plan().jobs[0].submits == 3
