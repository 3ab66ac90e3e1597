"""Reasons name what changed: which template, which parameter from what to what, which part of the spec, which rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.jobspec.loader import load_project
from runner.planner.render import render_job
from runner.reconciler.observe.lockfile_pins import pins_line
from runner.reconciler.plan.classify import KeyCounts
from runner.reconciler.plan.plan import BatchFacts, JobFacts, OutputState, ShardSize, Submit, plan_job
from runner.reconciler.plan.reasons import RowChanges, why_new
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import PinsLine
from runner.state.lockfile_parser import parse

SPEC = """\
version: 1
name: hello
model: gpt-4o-mini
endpoint: /v1/responses
parameters: {temperature: 0, max_output_tokens: 64, reasoning: {effort: low}}
input: {path: data/rows.jsonl, id: id}
prompt:
  system: Be brief.
  user: {template: templates/ask.j2}
vars: {tone: dry, labels: [a, b]}
schema: schemas/answer.json
output: {path: out/hello.jsonl}
"""
FILES = {
    "specs/hello.yaml": SPEC,
    "data/rows.jsonl": '{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n',
    "data/more.jsonl": '{"id": 1, "text": "uno"}\n{"id": 2, "text": "due"}\n',
    "templates/ask.j2": "{% include 'head.j2' %}{% from 'lib.j2' import said %}{{ said(text) }} {{ vars.tone }}",
    "templates/other.j2": "{{ text }}",
    "templates/head.j2": "Hello. ",
    "templates/lib.j2": "{% macro said(text) %}Say {{ text }}.{% endmacro %}",
    "schemas/answer.json": '{"type": "object", "properties": {"a": {"type": "string"}}}',
}


def pins(root: Path, files: dict[str, str]) -> PinsLine:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    [spec] = load_project(root, variables={}, provider=None, environ={}).jobs
    scratch = root / "scratch" / str(len(list(root.glob("scratch/*"))))
    return pins_line(render_job(spec, root, scratch, jobs=1), "")


def edited(*pairs: tuple[str, str]) -> dict[str, str]:
    text = SPEC
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return {"specs/hello.yaml": text}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        pytest.param(edited(("gpt-4o-mini", "gpt-4o")), "model changed: gpt-4o-mini to gpt-4o", id="model"),
        pytest.param(
            edited(
                ("/v1/responses", "/v1/chat/completions"), (", max_output_tokens: 64, reasoning: {effort: low}", "")
            ),
            "endpoint changed: /v1/responses to /v1/chat/completions; "
            'max_output_tokens changed: 64 to unset; reasoning changed: {"effort":"low"} to unset; '
            "response_format changed: unset to set; text changed: set to unset",
            id="endpoint",
        ),
        pytest.param(
            {"templates/ask.j2": FILES["templates/ask.j2"] + "!"}, "template changed: templates/ask.j2", id="template"
        ),
        pytest.param({"templates/head.j2": "Hi. "}, "template changed: templates/head.j2", id="included template"),
        pytest.param(
            {"templates/lib.j2": FILES["templates/lib.j2"].replace("Say", "Tell")},
            "template changed: templates/lib.j2",
            id="imported template",
        ),
        pytest.param(
            edited(("templates/ask.j2", "templates/other.j2")),
            "template changed: templates/ask.j2, templates/head.j2, templates/lib.j2 to templates/other.j2; "
            "user prompt changed",
            id="another template",
        ),
        pytest.param(edited(("temperature: 0", "temperature: 0.5")), "temperature changed: 0 to 0.5", id="parameter"),
        pytest.param(
            edited((", max_output_tokens: 64", "")), "max_output_tokens changed: 64 to unset", id="parameter gone"
        ),
        pytest.param(
            edited(("effort: low", "effort: high")),
            'reasoning.effort changed: "low" to "high"',
            id="nested parameter",
        ),
        pytest.param(edited(("Be brief.", "Be kind.")), "system prompt changed", id="system prompt"),
        pytest.param(edited(("  system: Be brief.\n", "")), "system prompt removed", id="no system prompt"),
        pytest.param(edited(("tone: dry", "tone: warm")), "vars changed: tone", id="var"),
        pytest.param(edited(("version: 1\n", "version: 1\nsalt: again\n")), "salt added", id="salt"),
        pytest.param(
            edited(("version: 1\n", "version: 1\nreplicates: 2\n")), "replicates changed: 1 to 2", id="replicates"
        ),
        pytest.param(edited(("id: id}", "id: id, limit: 1}")), "input.limit added", id="limit"),
        pytest.param(
            {"schemas/answer.json": FILES["schemas/answer.json"].replace('"a"', '"b"')},
            "schema schemas/answer.json changed",
            id="schema",
        ),
        pytest.param(
            edited(("data/rows.jsonl", "data/more.jsonl")),
            "input changed: data/rows.jsonl to data/more.jsonl",
            id="another input",
        ),
        pytest.param(
            {"data/rows.jsonl": FILES["data/rows.jsonl"] + '{"id": 3, "text": "three"}\n'},
            "rows differ in data/rows.jsonl: 3 now, 2 before",
            id="rows",
        ),
        pytest.param(
            {
                **edited(("temperature: 0", "temperature: 1"), ("tone: dry", "tone: warm"), ("Be brief.", "Be kind.")),
                "templates/head.j2": "Hi. ",
                "data/rows.jsonl": '{"id": 1, "text": "one"}\n',
            },
            "template changed: templates/head.j2; system prompt changed; vars changed: tone; "
            "temperature changed: 0 to 1; rows differ in data/rows.jsonl: 1 now, 2 before",
            id="several",
        ),
    ],
)
def test_what_changed_is_named(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    old = pins(tmp_path, FILES)
    assert why_new(old, pins(tmp_path, files)) == reason


def test_rows_are_told_apart_where_they_were_compared(tmp_path: Path) -> None:
    old = pins(tmp_path, FILES)
    new = pins(tmp_path, {"data/rows.jsonl": '{"id": 1, "text": "une"}\n{"id": 3, "text": "three"}\n'})
    told = why_new(old, new, RowChanges(1, 1, 1))
    assert told == "1 row added to, 1 row changed in, 1 row removed from data/rows.jsonl"


def test_parts_hold_no_prompts_and_an_older_line_without_them_still_reads(tmp_path: Path) -> None:
    line = pins(tmp_path, FILES)
    text = Lockfile("p").with_pins(line).text()
    for hidden in (b"Be brief", b"dry", b"Say", b"properties"):
        assert hidden not in text
    older = line.model_copy(update={"parts": {}})
    assert older.pins == line.pins
    read = parse(Lockfile("p").with_pins(older).text(), "x.lock", "p")
    assert read.pins_of("hello") == older
    # What stands already is kept as it is, so that an apply with nothing to do leaves the file byte for byte.
    assert read.with_pins(line).pins_of("hello") == older
    changed = pins(tmp_path, edited(("Be brief.", "Be kind.")))
    assert why_new(older, changed) == "the spec's prompt, vars, salt or asks changed"


@pytest.mark.parametrize(
    ("batches", "reason"), [(0, "first run"), (1, "the lockfile does not say what ran last")], ids=["new", "merged"]
)
def test_a_run_after_a_merge_is_not_called_the_first(tmp_path: Path, batches: int, reason: str) -> None:
    """Where two branches ran a job the merged lockfile has both, and no line says which is the newest."""
    ended = BatchFacts("b", 1, ended=True, indexed=True, keys_known=True, adopted=False, state="completed", answers=1)
    view = JobFacts(
        "hello", "local:echo", "out/hello.jsonl", KeyCounts(2, batches, submit=((1, 2 - batches),)), (ended,) * batches,
        (ShardSize(1, 1, 100),), OutputState.STALE, pins(tmp_path, FILES), None, 0,
    )  # fmt: skip
    [submit] = [action for action in plan_job(view).actions if isinstance(action, Submit)]
    assert submit.reason == reason
