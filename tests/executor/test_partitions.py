"""Partitions: closed ones are left alone, open ones finish as they started."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from runner.api import load, open_project
from runner.executor.outcome import Outcome
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan import Plan
from tests.executor.conftest import Team

DAY = "2026-11-23"
ADDRESS = f"job[date={DAY}]"
OUTPUT = f"out/{DAY}.jsonl"
REOPEN = ApplyOptions(reopen=True)
RETRY = ApplyOptions(retry_failed=frozenset({ADDRESS}))


class Daily:
    """A project with one partitioned job at the tests' service."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.root = team.root
        self.say("Say")

    def say(self, word: str, *more: str) -> None:
        """Change the template, and the spec with `more` lines."""
        self.team.write("templates/ask.j2", f"{word} {{{{ text }}}}.")
        extra = "".join(f"{line}\n" for line in more)
        self.team.write(
            "specs/job.yaml",
            "version: 1\nname: job\nprovider: test\nmodel: gpt-4o-mini\npartition: date\n"
            "input: {path: 'data/{{ vars.date }}.jsonl', id: id}\nprompt: {user: {template: ask.j2}}\n"
            f"output: {{path: 'out/{{{{ vars.date }}}}.jsonl'}}\n{extra}",
        )

    def rows(self, *texts: str, day: str = DAY) -> None:
        lines = (json.dumps({"id": number, "text": text}) for number, text in enumerate(texts, 1))
        self.team.write(f"data/{day}.jsonl", "".join(f"{line}\n" for line in lines))

    def commit(self) -> None:
        subprocess.run(
            "git init -q && git config user.email a@b.c && git config user.name A && git add -A && git commit -qm One",
            shell=True, cwd=self.root, check=True,
        )  # fmt: skip

    def _do(self, word: ApplyOptions, day: str, *, waiting: bool = True, apply: bool) -> Any:
        environ = self.team.environ
        project = load(root=self.root, environ=environ, variables={"date": day})
        with open_project(project, environ=environ, watcher=self.team, jobs=1) as opened:
            planned = opened.plan(project.jobs, word)
            if not apply:
                return planned.plan
            assert not planned.plan.errors, planned.plan.errors
            return opened.apply(planned, word, wait=waiting)

    def plan(self, word: ApplyOptions = ApplyOptions(), day: str = DAY) -> Plan:  # noqa: B008
        plan: Plan = self._do(word, day, apply=False)
        return plan

    def apply(self, word: ApplyOptions = ApplyOptions(), day: str = DAY, *, waiting: bool = True) -> Outcome:  # noqa: B008
        found: tuple[Outcome] = self._do(word, day, waiting=waiting, apply=True)
        return found[0]

    @property
    def texts(self) -> list[Any]:
        return [json.loads(line)["text"] for line in (self.root / OUTPUT).read_text().splitlines()]

    @property
    def partition(self) -> dict[str, Any]:
        return next(line["partition"] for line in self.team.lines("output") if line["output"] == OUTPUT)


@pytest.fixture
def daily(team: Callable[..., Team]) -> Daily:
    one = team()
    (one.root / "specs/job.yaml").unlink()
    made = Daily(one)
    made.rows("one", "two", "three")
    return made


SAID = ["Say one.", "Say two.", "Say three."]


def test_a_closed_partition_is_not_read_and_never_bought_again(daily: Daily) -> None:
    assert daily.apply().end == "succeeded"
    assert daily.partition == {"state": "closed", "batches": 1}
    before = (daily.root / "specs/job.lock").read_bytes()
    daily.say("Tell", "salt: other")
    (daily.root / f"data/{DAY}.jsonl").unlink()
    (daily.root / "templates/ask.j2").write_text("{% broken")
    plan = daily.plan()
    assert (plan.jobs, plan.changes, [one.address for one in plan.closed]) == ((), False, [ADDRESS])
    assert daily.apply().end == "succeeded"
    assert (daily.root / "specs/job.lock").read_bytes() == before
    assert len(daily.team.remote()) == 1


def test_the_plan_names_closed_partitions_with_an_earlier_template(daily: Daily) -> None:
    daily.apply()
    daily.say("Tell")
    daily.rows("four", day="2026-11-24")
    environ = daily.team.environ
    projects = [load(root=daily.root, environ=environ, variables={"date": day}) for day in (DAY, "2026-11-24")]
    with open_project(projects[1], environ=environ, jobs=1) as opened:
        plan = opened.plan([job for project in projects for job in project.jobs]).plan
    assert [(one.address, one.earlier) for one in plan.closed] == [(ADDRESS, True)]
    assert [job.new for job in plan.jobs] == [1]


def test_reopen_asks_with_todays_template(daily: Daily) -> None:
    daily.apply()
    daily.say("Tell")
    [job] = daily.plan(REOPEN).jobs
    assert (job.new, job.estimate is not None) == (3, True)
    assert daily.apply(REOPEN).end == "succeeded"
    assert daily.texts == ["Tell one.", "Tell two.", "Tell three."]
    assert daily.partition == {"state": "closed", "batches": 2}
    daily.say("Say")
    assert not daily.plan().changes


def test_a_missing_output_is_written_from_stored_results(daily: Daily) -> None:
    daily.commit()
    daily.apply()
    written = (daily.root / OUTPUT).read_bytes()
    daily.say("Tell")
    (daily.root / OUTPUT).unlink()
    assert daily.apply().end == "succeeded"
    assert (daily.root / OUTPUT).read_bytes() == written
    assert len(daily.team.remote()) == 1


def test_a_missing_output_that_can_not_be_restored_waits(daily: Daily) -> None:
    daily.apply()
    daily.say("Tell")
    (daily.root / OUTPUT).unlink()
    outcome = daily.apply()
    assert (outcome.end, outcome.codes) == ("error", ("BS610",))
    assert not (daily.root / OUTPUT).exists()
    assert len(daily.team.remote()) == 1


@pytest.mark.parametrize("source", ["kept", "git", "none"])
def test_an_open_partition_finishes_as_it_started(daily: Daily, source: str) -> None:
    daily.commit()
    daily.apply(waiting=False)
    if source != "kept":
        shutil.rmtree(daily.root / ".batchspec/open")
    if source == "none":
        shutil.rmtree(daily.root / ".git")
    daily.say("Tell")
    outcome = daily.apply()
    if source == "none":
        assert (outcome.end, outcome.codes, outcome.submitted) == ("error", ("BS610",), 0)
        assert "waits: its template changed" in outcome.message
        assert daily.team.lines("batch")[0]["state"] == "completed"
        daily.say("Say")
        assert daily.apply().end == "succeeded"
    else:
        assert outcome.end == "succeeded"
    assert daily.texts == SAID
    assert len(daily.team.remote()) == 1
    assert not (daily.root / ".batchspec/open").exists() or not list((daily.root / ".batchspec/open").iterdir())


@pytest.mark.parametrize("kept", [True, False])
def test_input_that_is_gone(daily: Daily, kept: bool) -> None:
    daily.apply(waiting=False)
    (daily.root / f"data/{DAY}.jsonl").unlink()
    if not kept:
        shutil.rmtree(daily.root / ".batchspec/open")
    outcome = daily.apply()
    if kept:
        assert outcome.end == "succeeded"
        assert daily.texts == SAID
        return
    [batch] = daily.team.lines("batch")
    assert (outcome.end, outcome.codes) == ("error", ("BS611",))
    assert batch["batch"] in outcome.message
    recovered = [json.loads(line) for line in (daily.root / f"{OUTPUT}.recovered.jsonl").read_text().splitlines()]
    assert sorted(row["text"] for row in recovered) == sorted(SAID)
    assert {row["batch"] for row in recovered} == {batch["batch"]}
    assert not (daily.root / OUTPUT).exists()
    lock = (daily.root / "specs/job.lock").read_bytes()
    assert daily.apply().end == "error"
    assert (daily.root / "specs/job.lock").read_bytes() == lock
    daily.rows("one", "two", "three")
    assert daily.apply().end == "succeeded"
    assert daily.texts == SAID


def test_rows_that_are_no_longer_in_the_input_count_as_gone(daily: Daily) -> None:
    daily.apply(waiting=False)
    shutil.rmtree(daily.root / ".batchspec/open")
    daily.rows("one", "other", "three")
    outcome = daily.apply()
    assert (outcome.end, outcome.codes, outcome.submitted) == ("error", ("BS611",), 0)
    assert "1 of its requests are no longer in its input" in outcome.message
    assert (daily.root / f"{OUTPUT}.recovered.jsonl").is_file()
    assert daily.apply(REOPEN).end == "succeeded"
    assert daily.texts == ["Say one.", "Say other.", "Say three."]
    assert not daily.plan().changes


def test_late_rows_of_an_open_partition_are_read_by_reopen(daily: Daily) -> None:
    daily.apply(waiting=False)
    daily.rows("one", "two", "three", "late")
    assert daily.apply().end == "succeeded"
    assert daily.texts == SAID
    assert daily.apply(REOPEN).end == "succeeded"
    assert daily.texts == [*SAID, "Say late."]
    assert sum(batch["request_counts"]["total"] for batch in daily.team.remote()) == 4
