"""How often a request is asked: replicates, salt, partitions - and what is left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from runner.api import load, open_project
from runner.cli.commands.forget import forget
from runner.errors import BatchspecError
from runner.state.lockfile import Lockfile
from runner.state.lockfile_parser import parse
from tests.executor.conftest import Team

Make = Callable[..., Team]


def asked(team: Team) -> int:
    return sum(batch["request_counts"]["total"] for batch in team.remote())


@pytest.mark.slow
def test_more_replicates_ask_for_the_new_ones_only(team: Make) -> None:
    """The first three asks of each request keep their keys."""
    one = team()
    one.spec("job", "replicates: 3")
    one.apply()
    before = {row["request"]: (row["id"], row["replicate"], row["batch"]) for row in one.output()}
    assert asked(one) == 9
    one.spec("job", "replicates: 5")
    assert one.plan().jobs[0].submits == 6
    one.apply()
    assert asked(one) == 15
    after = {row["request"]: (row["id"], row["replicate"], row["batch"]) for row in one.output()}
    assert before.items() <= after.items()
    assert Counter(row["id"] for row in one.output()) == {1: 5, 2: 5, 3: 5}
    one.spec("job", "replicates: 2")
    assert one.plan().jobs[0].submits == 0, "fewer ask nothing"


def test_equal_rows_are_asked_again_only_where_the_spec_says_so(team: Make) -> None:
    one = team()
    one.rows("one", "one", "one")
    one.apply()
    assert asked(one) == 1
    one.spec("job", "dedupe: false")
    assert one.plan().jobs[0].submits == 2
    one.apply()
    assert asked(one) == 3
    one.spec("job")
    assert one.plan().jobs[0].submits == 0


@pytest.mark.slow
def test_salt_asks_everything_again(team: Make) -> None:
    one = team()
    one.apply()
    old = {row["request"] for row in one.output()}
    one.spec("job", "salt: again")
    assert one.plan().jobs[0].submits == 3
    one.apply()
    assert asked(one) == 6
    assert not old & {row["request"] for row in one.output()}
    one.spec("job")
    assert one.plan().jobs[0].submits == 0, "the first answers are still there"


NIGHTLY = """\
version: 1
name: job
provider: test
model: gpt-4o-mini
partition: date
input: {path: data/rows.jsonl, id: id}
prompt: {user: "On {{ vars.date }} say {{ text }}."}
output: {path: "out/{{ vars.date }}.jsonl"}
"""


def nightly(team: Team) -> None:
    team.write("specs/nightly.yaml", NIGHTLY)
    (team.root / "specs/job.yaml").unlink()


def apply(team: Team, date: str) -> None:
    project = load(root=team.root, variables={"date": date}, environ=team.environ)
    with open_project(project, environ=team.environ, jobs=1) as opened:
        [outcome] = opened.apply(opened.plan(project.jobs))
    assert outcome.end == "succeeded"


def lockfile(team: Team) -> Lockfile:
    return parse((team.root / "specs/nightly.lock").read_bytes(), "nightly.lock", team.root.name)


def test_each_partition_has_its_own_lines_and_output(
    team: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = team()
    nightly(one)
    apply(one, "2026-11-23")
    first = (one.root / "out/2026-11-23.jsonl").read_bytes()
    lines = set((one.root / "specs/nightly.lock").read_text().splitlines()[1:])
    apply(one, "2026-11-24")
    assert asked(one) == 6
    assert (one.root / "out/2026-11-23.jsonl").read_bytes() == first
    assert lines <= set((one.root / "specs/nightly.lock").read_text().splitlines()), "the other's lines are left alone"
    assert lockfile(one).addresses() == ("job[date=2026-11-23]", "job[date=2026-11-24]")

    monkeypatch.chdir(one.root)
    with pytest.raises(BatchspecError, match="no lockfile knows a job job"):
        forget("job[date=2026-11-25]", yes=True)
    forget("job[date=2026-11-23]", yes=True)
    assert "forget job[date=2026-11-23]: 1 batch in specs/nightly.lock" in capsys.readouterr().out
    assert lockfile(one).addresses() == ("job[date=2026-11-24]",)
    assert (one.root / "out/2026-11-23.jsonl").read_bytes() == first


def test_forgetting_what_was_tried_leaves_the_real_lockfile_alone(team: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no partition is given a value, `--provider local` means the files that are kept apart."""
    one = team()
    nightly(one)
    apply(one, "2026-11-23")
    before = (one.root / "specs/nightly.lock").read_bytes()
    monkeypatch.chdir(one.root)
    with pytest.raises(BatchspecError, match="no lockfile knows"):
        forget("job[date=2026-11-23]", provider="local", yes=True)
    assert (one.root / "specs/nightly.lock").read_bytes() == before
