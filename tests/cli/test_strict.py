"""Warnings of requests that the service will refuse: shown by every kind of plan, errors with `--strict`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from runner.cli.main import run
from tests.conftest import REPOSITORY

SPEC = """\
version: 1
name: job
model: claude-sonnet-4-5
parameters: {max_tokens: 64, tool_choice: {type: auto}}
input: {path: data/rows.jsonl, id: id}
prompt: {user: "{{ text }}"}
output: {path: out/job.jsonl}
"""
STATIC, ROWS = "takes `tool_choice` only together with `tools`", "a message is empty or blank, which Anthropic refuses"
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command in a project; with `refused`, one with a request that the service refuses."""

    def command(*arguments: str, refused: bool = True, static: bool = False) -> tuple[int, str, str]:
        spec = SPEC if static else SPEC.replace(", tool_choice: {type: auto}", "")
        data = '{"id": "a", "text": "one"}\n' + ('{"id": "b", "text": " "}\n' if refused else "")
        monkeypatch.chdir(project({"specs/hello.yaml": spec, "data/rows.jsonl": data}))
        code = run([*arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.mark.parametrize("form", ["text", "markdown"])
def test_plans_show_warnings(say: Say, form: str) -> None:
    code, out, _ = say("plan", "--provider", "local", "--offline", "--format", form)
    assert code == 0
    assert "warning: 1 row" in " ".join(out.split())
    assert ROWS in " ".join(out.split())
    assert ('"b"' in out) is (form == "text"), "a review names no rows unless it may"


def test_json_has_warnings_only_where_there_are_some(say: Say) -> None:
    schema = json.loads((REPOSITORY / "schemas/plan.schema.json").read_text())
    for refused in (True, False):
        code, out, _ = say("plan", "--provider", "local", "--offline", "--json", refused=refused)
        [job] = [line for line in map(json.loads, out.splitlines()) if line["type"] == "job"]
        jsonschema.validate(job, schema)
        assert code == 0
        assert job.get("warnings") == ([f'1 row ("b"): {ROWS}'] if refused else None)


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_rows_are_errors_with_strict(say: Say, verb: str) -> None:
    more = ("--offline",) if verb == "plan" else ("--yes",)
    code, out, err = say(verb, "--provider", "local", *more, "--strict")
    assert code == 1
    assert ROWS in " ".join((out + err).split())
    assert "BS211" in out + err
    assert not Path("out").exists()


@pytest.mark.parametrize("verb", ["validate", "plan", "apply"])
def test_what_the_spec_shows_is_an_error_with_strict(say: Say, verb: str) -> None:
    code, _, err = say(verb, "--strict", static=True)
    assert code == 1
    assert STATIC in err
    assert "BS195" in err


def test_validate_warns_and_its_json_is_valid_but_for_strict(say: Say) -> None:
    code, _, err = say("validate", static=True)
    assert code == 0
    assert STATIC in err
    code, out, _ = say("validate", "--strict", "--json", static=True)
    assert code == 1
    assert json.loads(out)["valid"] is False
