"""A person's word on the command line releases what stands failed when it is given, once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.api import load, open_project
from runner.cli.commands.plan import plan
from runner.errors import BatchspecError
from runner.reconciler.observe.observe import ApplyOptions
from runner.service import BackgroundService, ServiceConfig
from tests.executor.conftest import Team
from tests.executor.forked_service import TOKEN
from tests.executor.story import ENVIRON, ROWS, checkout
from tests.providers.stub import Stub
from tests.sampling import sampled

Make = Callable[..., Team]
MATRIX = """\
version: 1
name: job
provider: test
model: gpt-4o-mini
vars: {n: 1}
matrix: {n: [1, 2]}
input: {path: data/rows.jsonl, id: id}
prompt: {user: "Say {{ text }} {{ vars.n }} times."}
output: {path: "out/{{ address }}.jsonl"}
"""
AGAIN = ApplyOptions(retry_failed=frozenset({"job"}))


@pytest.fixture
def failing(team: Make, tmp_path: Path) -> Iterator[Team]:
    """A job whose requests fail for a reason that lasts, at a service of its own."""
    config = ServiceConfig(tmp_path / "failing", tokens=(TOKEN,), faults=("fail-requests=100%:content_policy",))
    with BackgroundService.start(config) as service:
        made = team()
        profile = {"kind": "digitalocean", "base_url": service.url, "key": {"env": "BATCHSPEC_TEST_KEY"}}
        made.url = service.url
        made.write(
            "batchspec.yaml", json.dumps({"version": 1, "project": made.root.name, "providers": {"test": profile}})
        )
        yield made


def test_the_name_of_a_job_stands_for_all_that_its_matrix_makes(
    failing: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing.write("specs/job.yaml", MATRIX)
    assert [outcome.submitted for outcome in failing.apply()] == [3, 3]
    assert [job.submits for job in failing.plan(AGAIN).jobs] == [3, 3]
    assert [job.submits for job in failing.plan(ApplyOptions(retry_failed=frozenset({"job[n=1]"}))).jobs] == [3, 0]
    assert [outcome.submitted for outcome in failing.apply(AGAIN)] == [3, 3]
    monkeypatch.chdir(failing.root)
    monkeypatch.setenv("BATCHSPEC_TEST_KEY", TOKEN)
    plan(retry_failed=["job"])
    assert "Plan: 6 to submit" in capsys.readouterr().out
    plan(retry_failed=["job"], job=["job[n=2]"])
    assert "Plan: 3 to submit" in capsys.readouterr().out
    with pytest.raises(BatchspecError, match="this command read only some of them"):
        plan([failing.root / "specs"], prune=True)
    with pytest.raises(BatchspecError, match=r"--retry-failed job\[n=1\]: the selected jobs are job\[n=2\]"):
        plan(retry_failed=["job[n=1]"], job=["job[n=2]"])


@pytest.mark.slow
def test_the_name_of_a_job_releases_what_is_unknown_in_all_that_its_matrix_makes(tmp_path: Path) -> None:
    with Stub() as stub:
        one = Team(checkout(tmp_path, stub.url), stub.url)
        (one.root / "specs/told.yaml").unlink()
        one.write("specs/job.yaml", MATRIX.replace("test", "service"))

        def submits(word: ApplyOptions = ApplyOptions()) -> list[int]:  # noqa: B008
            with open_project(load(root=one.root), environ=ENVIRON, jobs=1) as opened:
                planned = opened.plan(opened.context.project.jobs, word)
                opened.apply(planned, word)
            return [job.submits for job in planned.plan.jobs]

        assert submits() == [ROWS, ROWS]
        stub.jobs.clear()
        shutil.rmtree(one.root / ".batchspec")
        shutil.rmtree(one.root / "out")
        assert submits() == [0, 0]
        assert submits(ApplyOptions(ask_unknown=frozenset({"job"}))) == [ROWS, ROWS]


@pytest.mark.parametrize("rounds", sampled([1, 3], 1))
def test_failed_requests_are_asked_again_once_for_each_time_it_is_said(failing: Team, rounds: int) -> None:
    failing.spec("job", f"retry: {{rounds: {rounds}}}")
    [outcome] = failing.apply()
    assert (outcome.end, outcome.submitted, len(failing.remote())) == ("failed", 3, 1)
    for number in (2, 3):
        [outcome] = failing.apply(AGAIN)
        assert (outcome.end, outcome.submitted, len(failing.remote())) == ("failed", 3, number)
    [outcome] = failing.apply()
    assert (outcome.end, outcome.submitted, len(failing.remote())) == ("failed", 0, 3)


def test_what_waits_for_room_asks_nothing_twice(failing: Team) -> None:
    failing.spec("job", "shards: {max_requests: 1}", "max_in_flight: {shards: 1}")
    failing.apply()
    assert len(failing.remote()) == 3
    failing.apply(AGAIN)
    assert len(failing.remote()) == 6
