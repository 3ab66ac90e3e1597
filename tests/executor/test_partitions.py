"""Partitions: closed ones are left alone, open ones finish as they started."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.api import load, open_project
from runner.executor.outcome import Outcome
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.plan import Plan
from runner.service import BackgroundService, ServiceConfig
from tests.cli_runner import run_cli
from tests.executor.conftest import Team
from tests.executor.forked_service import TOKEN
from tests.sampling import sampled

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


@pytest.mark.slow
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


@pytest.mark.parametrize("source", sampled(["kept", "git", "none"], 1))
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


@pytest.mark.parametrize("kept", sampled([True, False], 1))
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


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Daily]:
    """A project at a service that fails one request for good."""
    config = ServiceConfig(data=tmp_path / "service", tokens=(TOKEN,), faults=("fail-requests=1:content_policy",))
    with BackgroundService.start(config) as service:
        one = Team(tmp_path / "failing", service.url)
        profile = {"kind": "digitalocean", "base_url": service.url, "key": {"env": "BATCHSPEC_TEST_KEY"}}
        settings = {"version": 1, "project": "failing", "providers": {"test": profile}}
        one.write("batchspec.yaml", json.dumps(settings))
        made = Daily(one)
        made.rows("one", "two", "three")
        yield made


def test_retry_failed_asks_exactly_the_failed_requests_again(failing: Daily) -> None:
    """As they were: the template of today is not used."""
    daily = failing
    daily.commit()
    outcome = daily.apply()
    assert (outcome.end, daily.partition["state"]) == ("failed", "failed")
    assert daily.plan().closed[0].failed
    assert daily.apply().end == "failed"
    daily.say("Tell")
    [job] = daily.plan(RETRY).jobs
    assert (job.submits, job.tally.answered) == (1, 2)
    assert daily.apply(RETRY).end == "succeeded"
    assert daily.texts == SAID
    assert sum(batch["request_counts"]["total"] for batch in daily.team.remote()) == 4
    daily.rows("one", "other", "three")
    assert daily.plan(RETRY).jobs[0].waits is not None


def test_a_canary_passes_once_for_a_template_not_for_each_partition(daily: Daily) -> None:
    canary = "canary: {requests: 1}"
    daily.say("Say", canary)
    assert daily.apply().end == "succeeded"
    assert len(daily.team.remote()) == 2
    for day in ("2026-11-24", "2026-11-25"):
        daily.rows("four", "five", day=day)
        assert daily.apply(day=day).end == "succeeded"
    assert len(daily.team.remote()) == 4
    daily.say("Tell", canary)
    daily.rows("six", "seven", day="2026-11-26")
    assert daily.apply(day="2026-11-26").end == "succeeded"
    assert len(daily.team.remote()) == 6


def test_a_second_apply_with_another_template_stops(daily: Daily) -> None:
    """Both rendered before the first create: under the lock, the second one sees the pins of the first."""
    environ = daily.team.environ
    project = load(root=daily.root, environ=environ, variables={"date": DAY})
    with (
        open_project(project, environ=environ, jobs=1) as first,
        open_project(project, environ=environ, jobs=1) as late,
    ):
        planned = first.plan(project.jobs)
        daily.say("Tell")
        other = late.plan(project.jobs)
        first.apply(planned, wait=False)
        [outcome] = late.apply(other)
    assert (outcome.end, outcome.codes, outcome.submitted) == ("error", ("BS610",), 0)
    assert daily.apply().end == "succeeded"
    assert daily.texts == SAID
    assert len(daily.team.remote()) == 1


def test_kept_requests_that_are_damaged_are_not_used(daily: Daily) -> None:
    daily.apply(waiting=False)
    [folder] = (daily.root / ".batchspec/open").iterdir()
    (folder / "rows").write_bytes(b"other")
    daily.say("Tell")
    assert daily.apply().codes == ("BS610",)
    assert len(daily.team.remote()) == 1


def test_kept_rows_have_the_columns_that_the_output_includes(daily: Daily) -> None:
    with_rows = "output: {path: 'out/{{ vars.date }}.jsonl', include: [text, row, error, request, batch]}"
    spec = daily.root / "specs/job.yaml"
    spec.write_text(
        "".join(line for line in spec.read_text().splitlines(True) if not line.startswith("output")) + with_rows
    )
    daily.apply(waiting=False)
    (daily.root / f"data/{DAY}.jsonl").unlink()
    assert daily.apply().end == "succeeded"
    rows = [json.loads(line)["row"] for line in (daily.root / OUTPUT).read_text().splitlines()]
    assert [row["text"] for row in rows] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--reopen",), "--reopen needs a selection"),
        (("--reopen", "--no-new", "--var", f"date={DAY}"), "--no-new and --reopen contradict each other"),
    ],
)
def test_reopen_is_refused_without_a_selection(daily: Daily, arguments: tuple[str, ...], message: str) -> None:
    for command in ("plan", "apply"):
        done = run_cli([command, *arguments], cwd=daily.root, env={**os.environ, **daily.team.environ})
        assert done.returncode == 1
        assert message in done.stderr
    assert not daily.team.remote()


def test_the_commands_name_closed_and_waiting_partitions(daily: Daily) -> None:
    def batchspec(*arguments: str, code: int = 0) -> str:
        done = run_cli(arguments, cwd=daily.root, env={**os.environ, **daily.team.environ})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    batchspec("apply", "--yes", "--no-wait", "--var", f"date={DAY}")
    shutil.rmtree(daily.root / ".batchspec/open")
    daily.say("Tell")
    assert "waits: its template changed" in batchspec("plan", "--var", f"date={DAY}")
    assert "[BS610]" in batchspec("apply", "--yes", "--var", f"date={DAY}", code=1)
    daily.say("Say")
    batchspec("apply", "--yes", "--var", f"date={DAY}")
    daily.say("Tell")
    assert batchspec("plan", "--var", f"date={DAY}") == "Nothing to do: 1 partition closed.\n"
    assert json.loads(batchspec("plan", "--json", "--var", f"date={DAY}").splitlines()[-1])["closed"] == 1
    assert "3 to submit" in batchspec("plan", "--reopen", "--select", ADDRESS)


def test_no_new_finishes_what_a_partition_asked_and_starts_nothing(daily: Daily) -> None:
    no_new = ApplyOptions(no_new=True)
    assert daily.apply(no_new).end == "skipped"
    assert not daily.team.remote()
    assert not (daily.root / ".batchspec/open").exists()
    daily.apply(waiting=False)
    daily.say("Tell")
    daily.rows("one", "two", "three", "late")
    assert daily.apply(no_new).end == "succeeded"
    assert daily.texts == SAID
    assert daily.partition["state"] == "closed"
