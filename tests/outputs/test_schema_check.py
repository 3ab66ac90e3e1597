"""Structured output: asked for in each format's own field; answers are parsed; what does not fit is an invalid result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.errors import SpecError
from runner.jobspec.answer_schema import is_strict
from runner.jobspec.loader import Project
from runner.outputs.result_lines import Answer
from runner.outputs.schema_check import AnswerSchema
from runner.planner.render import first_requests
from tests.cli_runner import run_cli
from tests.conftest import SPEC

Write = Callable[..., Path]
Load = Callable[..., Project]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}},
    "required": ["label"],
    "additionalProperties": False,
}
# The echo backend says the prompt back, so the rows are the answers.
ROWS = ['{"label": "good"}', '{"label": "awful"}', "no JSON", '{"label": "bad"}']
FILES = {
    "specs/hello.yaml": SPEC.replace('"Say {{ text }}."', '"{{ text }}"') + "schema: schemas/label.v1.json\n",
    "schemas/label.v1.json": json.dumps(SCHEMA),
    "data/rows.jsonl": "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(ROWS)),
}
HOME = ".batchspec/realms/local"


def with_spec(more: str, *changes: tuple[str, str]) -> dict[str, str]:
    spec = FILES["specs/hello.yaml"] + more
    for change in changes:
        spec = spec.replace(*change)
    return {**FILES, "specs/hello.yaml": spec}


def body(load: Load, files: dict[str, str]) -> dict[str, Any]:
    loaded = load(files)
    _, line = next(first_requests(loaded.jobs[0], loaded.root, 1))
    request = orjson.loads(line)
    found: dict[str, Any] = request.get("body") or request["params"]
    return found


def test_each_format_has_its_field(load: Load) -> None:
    named = {"name": "label", "schema": SCHEMA, "strict": True}
    assert body(load, FILES)["response_format"] == {"type": "json_schema", "json_schema": named}
    responses = with_spec("endpoint: /v1/responses\n", ("max_tokens: 64", "text: {verbosity: low}"))
    assert body(load, responses)["text"] == {"verbosity": "low", "format": {"type": "json_schema", **named}}
    claude = with_spec("", ("gpt-4o-mini", "claude-3-5-haiku-latest"))
    assert body(load, claude)["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        pytest.param(SCHEMA, True, id="closed, and all required"),
        pytest.param({**SCHEMA, "required": []}, False, id="an optional property"),
        pytest.param({**SCHEMA, "additionalProperties": True}, False, id="open"),
        pytest.param({"type": "array", "items": SCHEMA}, False, id="no object"),
        pytest.param({**SCHEMA, "properties": {"label": {"type": "object"}}}, False, id="open inside"),
    ],
)
def test_strict_is_asked_for_where_it_is_possible(schema: dict[str, Any], strict: bool) -> None:
    assert is_strict(schema) is strict


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("{", "schemas/label.v1.json:1:2: not valid JSON", id="no JSON"),
        pytest.param("[]", "must hold a JSON object", id="no object"),
        pytest.param('{"type": "objekt"}', "is not a usable JSON Schema: at /type: 'objekt'", id="no schema"),
        pytest.param('{"$ref": "https://example.com/x.json"}', "leads to another file", id="a reference out"),
        pytest.param('{"type": "object", "type": "array"}', "the key type is repeated", id="a key twice"),
        pytest.param('{"a":' * 9000 + "1" + "}" * 9000, "schemas/label.v1.json", id="nested deep"),
        pytest.param('{"a":' * 100 + "1" + "}" * 100, "nested more than 60 deep", id="nested"),
        pytest.param('{"maximum": NaN}', "JSON has no NaN", id="NaN"),
        pytest.param('{"maximum": 1e400}', "the number 1e400 is too large", id="too large a number"),
        pytest.param('{"title": "\\ud800"}', "half of a surrogate pair", id="half of a surrogate pair"),
        pytest.param('{"pattern": "(?=a)"}', "the pattern '(?=a)' can't be used", id="a pattern that looks around"),
        pytest.param('{"title": "' + "x" * 200_000 + '"}', "is larger than 200000 bytes", id="large"),
    ],
)
def test_a_schema_that_is_wrong_is_told_before_anything_is_sent(load: Load, text: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        load({**FILES, "schemas/label.v1.json": text})
    assert says in str(caught.value)
    assert "specs/hello.yaml:10:9" in str(caught.value)


def test_schema_and_parameter_do_not_mix(load: Load) -> None:
    with pytest.raises(SpecError, match="`schema` sets this too; remove one of them"):
        load(with_spec("", ("max_tokens: 64", "response_format: {type: json_object}")))
    with pytest.raises(SpecError, match=r"there is no schema schemas/no\.json"):
        load(with_spec("", ("label.v1.json", "no.json")))


def batchspec(root: Path, *arguments: str, expect: int = 0) -> str:
    done = run_cli([*arguments, "--provider", "local"], cwd=root)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def rows(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / HOME / "out/hello.jsonl").read_text().splitlines()]


def test_what_does_not_fit_is_invalid_and_counts(project: Write) -> None:
    """It was billed: its text and tokens stay, and it is not asked again by itself."""
    root = project(FILES)
    batchspec(root, "apply", "--yes", expect=3)
    found = rows(root)
    assert [row["parsed"] for row in found] == [{"label": "good"}, None, None, {"label": "bad"}]
    assert [row["error"] and row["error"]["code"] for row in found] == [None, "invalid", "invalid", None]
    assert found[1]["error"]["message"] == "at /label: 'awful' is not one of ['good', 'bad']"
    assert found[2]["error"]["message"].startswith("not JSON: ")
    assert (found[1]["text"], found[1]["usage"]["output_tokens"] > 0) == (ROWS[1], True)
    before = (root / HOME / "out/hello.jsonl").read_bytes()
    batchspec(root, "apply", "--yes", expect=3)
    assert (root / HOME / "out/hello.jsonl").read_bytes() == before
    lines = map(json.loads, (root / HOME / "specs/hello.lock").read_text().splitlines())
    assert [line["requests"] for line in lines if "batch" in line] == [4]
    spec = root / "specs/hello.yaml"
    spec.write_text(spec.read_text() + "tolerate: 2\n")
    batchspec(root, "apply", "--yes")


def test_answers_that_no_output_can_carry_are_invalid(project: Write) -> None:
    """They were paid for: that one of them is strange stops no other from being written."""
    texts = ['{"n": 1}', '{"n": 99999999999999999999999}', '{"n": 1e400}', '{"n": "\\ud800"}']
    data = "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts))
    root = project({**with_spec("tolerate: 3\n"), "schemas/label.v1.json": "{}", "data/rows.jsonl": data})
    batchspec(root, "apply", "--yes")
    found = rows(root)
    assert [row["parsed"] for row in found] == [{"n": 1}, None, None, None]
    assert [row["error"] and row["error"]["code"] for row in found] == [None, *["invalid"] * 3]
    assert [row["error"]["message"] for row in found[1:]] == [
        "not JSON: it holds a whole number beyond 64 bits",
        "not JSON: the number 1e400 is too large",
        "not JSON: it holds half of a surrogate pair, which is no character",
    ]
    assert [row["text"] for row in found] == texts


def test_it_is_asked_again_where_the_spec_says_so(project: Write) -> None:
    root = project(with_spec("retry: {rounds: 2, on: [invalid]}\ntolerate: 2\n"))
    batchspec(root, "apply", "--yes")
    lines = map(json.loads, (root / HOME / "specs/hello.lock").read_text().splitlines())
    assert sorted((line["round"], line["requests"]) for line in lines if "batch" in line) == [(1, 4), (2, 2)]


def test_refusals_and_errors_are_left_alone() -> None:
    schema = AnswerSchema(SCHEMA)
    refusal = Answer(None, "stop", "I will not.", 1, 1, None, "m", None)
    failed = Answer(None, None, None, None, None, None, None, ("server_error", "x"))
    assert schema.check(refusal) == (refusal, None)
    assert schema.check(failed) == (failed, None)
    deep = Answer("[" * 100_000, "stop", None, 1, 1, None, "m", None)
    assert schema.check(deep)[0].error is not None
