"""`--json` through real runs: each line fits the published schema of its command, and stdout holds nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import structlog

from runner.cli.main import run
from runner.executor import poll
from runner.service import BackgroundService, ServiceConfig
from tests.conftest import REPOSITORY
from tests.executor.story import ENVIRON, checkout
from tests.providers.stub import KEY
from tests.sampling import sampled

Line = dict[str, Any]
SPEC = "specs/told.yaml"


def validated(command: str, text: str) -> list[Line]:
    """The lines of a command's output, each held against the schema in the repository; the version comes first."""
    schema = json.loads((REPOSITORY / f"schemas/{command}.schema.json").read_text())
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        jsonschema.validate(line, schema)
    assert lines[0]["type"] == "version"
    assert lines[0]["command"] == command
    assert lines[0]["format"] in schema["title"]
    return lines


class Told:
    """A checkout and its service, and commands in it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self._capsys = capsys

    def __call__(self, command: str, *options: str, expect: int = 0) -> list[Line]:
        self._capsys.readouterr()
        code = run([command, "--json", *options])
        said = self._capsys.readouterr()
        assert code == expect, said.out + said.err
        lines = validated(command, said.out)
        if command == "apply":
            assert lines[-1] == {"type": "exit", "code": code}
        return lines

    def change(self, **fields: object) -> None:
        """Add fields to the spec."""
        path = self.root / SPEC
        path.write_text(path.read_text() + "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items()))


Make = Callable[..., Any]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Make]:
    """Starts a service with faults, and goes into a checkout of a job for it."""

    @contextmanager
    def start(*faults: str, **settings: Any) -> Iterator[Told]:
        config = ServiceConfig(data=tmp_path / "service", tokens=(KEY,), faults=faults, **settings)
        with BackgroundService.start(config) as service:
            root = checkout(tmp_path / "checkout", service.url)
            monkeypatch.chdir(root)
            yield Told(root, capsys)

    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(poll, "MIN_INTERVAL", dict.fromkeys(poll.MIN_INTERVAL, 0.05))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield start
    for number, handler in handlers.items():
        signal.signal(number, handler)
    structlog.reset_defaults()  # it was told to write to the stderr of this test


def only(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line["type"] == kind]


def actions(lines: list[Line]) -> list[str]:
    [job] = only(lines, "job")
    return [action["action"] for action in job["actions"]]


def events(lines: list[Line]) -> list[str]:
    return [line["event"] for line in only(lines, "event")]


def test_submitted_waited_for_and_written(told: Make) -> None:
    with told() as batchspec:
        assert actions(batchspec("plan")) == ["submit", "write"]
        lines = batchspec("apply", "--yes")
        assert "output.written" in events(lines)
        assert only(lines, "progress")
        assert only(lines, "outcome")[0]["end"] == "succeeded"
        [job] = only(batchspec("status"), "status")
        assert [batch["state"] for batch in job["batches"]] == ["completed"] * 3
        assert only(batchspec("verify"), "verified")[0]["verified"]
        assert actions(batchspec("plan")) == []


@pytest.mark.slow
def test_a_further_round(told: Make) -> None:
    with told("expire-half=1") as batchspec:
        lines = batchspec("apply", "--yes")
        assert events(lines).count("batch.submitted") == 4
        [job] = only(batchspec("status"), "status")
        assert sorted(batch["round"] for batch in job["batches"]) == [1, 1, 1, 2]


def test_requests_that_stand_failed_and_what_verify_says_then(told: Make) -> None:
    with told("fail-requests=1:content_policy") as batchspec:
        lines = batchspec("apply", "--yes", expect=3)
        [outcome] = only(lines, "outcome")
        assert (outcome["end"], outcome["failed"]) == ("failed", 1)
        assert only(batchspec("plan"), "plan")[0]["failed"] == 1
        (batchspec.root / "out/told.jsonl").write_text("")
        [found] = only(batchspec("verify", expect=1), "verified")
        assert not found["verified"]
        assert "row 0 is missing" in found["wrong"][0]


@pytest.mark.slow
def test_answers_that_are_unknown(told: Make) -> None:
    with told("missing-lines=1") as batchspec:
        batchspec("apply", "--yes", expect=3)
        lines = batchspec("plan")
        assert actions(lines) == ["hold"]
        assert only(lines, "plan")[0]["unknown"] == 1


def test_over_budget(told: Make) -> None:
    with told() as batchspec:
        batchspec.change(budget={"max_requests": 1})
        assert only(batchspec("plan"), "plan")[0]["over_budget"]
        lines = batchspec("apply", "--yes", expect=1)
        assert "over budget" in only(lines, "error")[0]["message"]
        assert not only(lines, "event")


@pytest.mark.slow
def test_a_job_that_left_while_it_ran(told: Make) -> None:
    with told(answer_delay=0.3, drain=0.1) as batchspec:
        batchspec("apply", "--yes", "--no-wait")
        spec = (batchspec.root / SPEC).read_text()
        (batchspec.root / "specs/other.yaml").write_text(spec.replace("told", "other").replace("Say", "Tell"))
        (batchspec.root / SPEC).unlink()
        [orphan] = only(batchspec("plan"), "orphan")
        assert not orphan["cancel"]
        open_ = {*orphan["running"], *orphan["over"]}
        assert len(open_) == 3
        lines = batchspec("apply", "--yes", "--prune")
        [orphan] = only(lines, "orphan")
        assert {*orphan["cancel"], *orphan["fetch"]} == open_
        assert not only(batchspec("plan"), "orphan")


def test_errors_are_lines_too(told: Make) -> None:
    with told() as batchspec:
        (batchspec.root / "data/rows.jsonl").write_text('{"id": 1}\n')
        [error] = only(batchspec("plan", expect=1), "error")
        assert (error["job"], "data/rows.jsonl:1" in error["message"]) == ("told", True)
        assert only(batchspec("verify", expect=1), "error")[0]["job"] == "told"
        lines = batchspec("apply", "--yes", expect=1)
        assert only(lines, "error")[0]["job"] == "told"
        (batchspec.root / "specs/told.lock").write_text("nonsense\n")
        assert "specs/told.lock:1" in only(batchspec("status", expect=1), "error")[0]["message"]


@pytest.mark.parametrize("command", sampled(["plan", "apply", "status", "verify"], 1))
def test_what_is_wrong_with_specs_is_a_line_a_problem(told: Make, command: str) -> None:
    with told() as batchspec:
        batchspec.change(bogus=1, tolerant=2)
        errors = only(batchspec(command, expect=1), "error")
        assert [(error["file"], error["line"]) for error in errors] == [(SPEC, 10), (SPEC, 11)]
        assert all(error["column"] > 0 and "job" not in error for error in errors)


@pytest.mark.slow
def test_interrupted(told: Make) -> None:
    with told("stuck-validating=1:60") as batchspec:
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", "apply", "--json", "--yes"],
            cwd=batchspec.root, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if "answers told" in line:
                process.send_signal(signal.SIGINT)
                break
        rest, said = process.communicate(timeout=60)
        lines = validated("apply", seen + rest)
        assert lines[-1] == {"type": "exit", "code": 130}
        assert len(only(lines, "outcome")[0]["running"]) > 0
        assert "To continue, run: batchspec apply --json --yes" in said
        assert "wait" in actions(batchspec("plan"))
        [job] = only(batchspec("status"), "status")
        assert not all(batch["ended"] for batch in job["batches"])
        [outcome] = only(batchspec("apply", "--yes", "--timeout", "0s", expect=4), "outcome")
        assert outcome["end"] == "running"
