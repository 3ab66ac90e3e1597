"""Rendering: pure, strict, the same bytes everywhere; golden vectors guard `k1`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.base.keys import body_digest, key_state, key_text, parse_key
from runner.errors import InputError, Problem, SpecError
from runner.jobspec.loader import Project
from runner.planner.render import Desired, first_requests, render_job

Load = Callable[..., Project]

SPEC = """\
version: 1
name: golden
model: {model}
{extra}
parameters: {parameters}
input: {{path: data/rows.jsonl, id: id}}
prompt:
  system: "You are careful."
  user: {{template: templates/t.j2}}
vars: {{labels: [a, b]}}
output: {{path: out/golden.jsonl}}
"""
TEMPLATE = "Row {{ id }}: {{ text }}\n{% for label in vars.labels %}\n- {{ label }}\n{% endfor %}\n{{ more }}"
ROW = (
    '{"id": "x", "text": "caf\\u00e9 \\"q\\" \\n \\u2028 \\ud83d\\ude00", "more": [1, 2.5, true, null, {"k": 1e21}]}\n'
)


def golden(load: Load, model: str, extra: str, parameters: str) -> bytes:
    spec = SPEC.format(model=model, extra=extra, parameters=parameters)
    loaded = load({"specs/hello.yaml": spec, "templates/t.j2": TEMPLATE, "data/rows.jsonl": ROW})
    [(_, line)] = first_requests(loaded.jobs[0], loaded.root, 5)
    return line


USER = '"Row x: café \\"q\\" \\n \u2028 😀\\n- a\\n- b\\n[1, 2.5, True, None, {\'k\': 1e+21}]"'


@pytest.mark.parametrize(
    ("model", "extra", "parameters", "key", "body"),
    [
        pytest.param(
            "gpt-4o-mini",
            "",
            "{temperature: 0, max_tokens: 8, zeta: {b: 1, a: 2}}",
            "k1-f77657b70e2a06845bb48666674deb82e545d4e1",
            '"method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o-mini","messages":['
            '{"role":"system","content":"You are careful."},{"role":"user","content":' + USER + "}],"
            '"max_tokens":8,"temperature":0,"zeta":{"b":1,"a":2}}}\n',
            id="chat completions",
        ),
        pytest.param(
            "gpt-4.1-mini",
            "endpoint: /v1/responses",
            "{max_output_tokens: 8}",
            "k1-59fedc4144d6099c342a11871221abc3ba012652",
            '"method":"POST","url":"/v1/responses","body":{"model":"gpt-4.1-mini","instructions":"You are careful.",'
            '"input":' + USER + ',"max_output_tokens":8}}\n',
            id="responses",
        ),
        pytest.param(
            "claude-3-5-haiku-latest",
            "",
            "{max_tokens: 8, temperature: 0.5}",
            "k1-acaa723dd69c25e17bd653df5593edfd10a97428",
            '"params":{"model":"claude-3-5-haiku-latest","system":"You are careful.","messages":['
            '{"role":"user","content":' + USER + '}],"max_tokens":8,"temperature":0.5}}\n',
            id="messages",
        ),
        pytest.param(
            "gpt-4o-mini",
            'salt: "again"',
            "{temperature: 0, max_tokens: 8, zeta: {b: 1, a: 2}}",
            "k1-519fcf4450dfec9128dab6a141828574e825784e",
            '"method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o-mini","messages":['
            '{"role":"system","content":"You are careful."},{"role":"user","content":' + USER + "}],"
            '"max_tokens":8,"temperature":0,"zeta":{"b":1,"a":2}}}\n',
            id="salted",
        ),
    ],
)
def test_golden_vectors(load: Load, model: str, extra: str, parameters: str, key: str, body: str) -> None:
    """A change here asks every request of every user again. It needs `k2`, not another vector."""
    line = golden(load, model, extra, parameters)
    assert line.decode() == f'{{"custom_id":"{key}",{body}'


def test_a_key_is_read_as_it_was_written() -> None:
    digest = body_digest(key_state("openai", "/v1/responses", ""), b"{}")
    for ordinal in (0, 1, 4_294_967_295):
        text = key_text(digest, ordinal)
        assert parse_key(text) == digest + ordinal.to_bytes(4, "big")
        assert len(text) <= 64  # Anthropic's limit for a custom_id
    for foreign in (
        "req-1",
        "k1-",
        "k1-" + "g" * 40,
        key_text(digest) + "-0",
        key_text(digest) + "-4294967296",
        None,
        7,
    ):
        assert parse_key(foreign) is None


def test_a_key_depends_on_format_endpoint_salt_and_body() -> None:
    states = [
        key_state("openai", "/v1/responses", ""),
        key_state("openai", "/v1/chat/completions", ""),
        key_state("anthropic", "", ""),
        key_state("openai", "/v1/responses", "again"),
        key_state("openai", "/v1/respons", "es"),
    ]
    keys = {body_digest(state, body) for state in states for body in (b"{}", b"[]")}
    assert len(keys) == 10


def rendered(load: Load, tmp_path: Path, user: str, rows: str, **files: str) -> Desired:
    spec = f"""\
version: 1
name: hello
model: m
input: {{path: data/rows.jsonl, id: id}}
prompt: {{user: {orjson.dumps(user).decode()}}}
vars: {{list: [1, 2]}}
output: {{path: out/hello.jsonl}}
"""
    named = {name.replace("__", "/").replace("_j2", ".j2"): text for name, text in files.items()}
    loaded = load({"specs/hello.yaml": spec, "data/rows.jsonl": rows, **named})
    return render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch")


def contents(desired: Desired) -> list[str]:
    return [orjson.loads(line)["body"]["messages"][0]["content"] for line in desired.spool.lines()]


TWO = '{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n'


def test_no_template_state_survives_a_row(load: Load, tmp_path: Path) -> None:
    """An imported template could count across rows; it is made anew for each."""
    macros = "{% set ns = namespace(n=0) %}{% macro next() %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{% endmacro %}"
    user = '{% from "m.j2" import next %}{{ next() }}{{ next() }} {{ text }}'
    assert contents(rendered(load, tmp_path, user, TWO, templates__m_j2=macros)) == ["12 a", "12 b"]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        pytest.param("{{ missing }}", "'missing' is undefined; the row has: id, text", id="a column that is not there"),
        pytest.param("{{ vars.nope }}", "has no attribute 'nope'", id="a var that is not there"),
        pytest.param("{{ text | map('upper') }}", "a generator cannot be printed; add `| list`", id="a generator"),
        pytest.param("{{ cycler }}", "a type cannot be printed", id="a class"),
        pytest.param("{{ ''.__class__ }}", "unsafe", id="an attribute trick"),
        pytest.param("{{ vars.list.append(3) }}", "unsafe", id="changing vars"),
        pytest.param(
            "{% for i in range(999999) %}{% endfor %}", "the template exceeds 1000000 steps", id="a long loop"
        ),
        pytest.param("{% include 'gone.j2' %}", "there is no template gone.j2", id="an include that is not there"),
        pytest.param(
            "{% include '../../etc/passwd' %}", "leads outside the project", id="an include outside the project"
        ),
    ],
)
def test_a_row_that_can_not_be_rendered_is_named(load: Load, tmp_path: Path, user: str, message: str) -> None:
    with pytest.raises((InputError, SpecError)) as caught:
        rendered(load, tmp_path, user, TWO)
    text = str(caught.value)
    assert message in text
    assert "data/rows.jsonl:1" in text or "specs/hello.yaml" in text


@pytest.mark.parametrize("user", ["{{ text | random }}", "{{ lipsum() }}"])
def test_what_is_random_does_not_exist(load: Load, tmp_path: Path, user: str) -> None:
    with pytest.raises((InputError, SpecError)):
        rendered(load, tmp_path, user, TWO)


def test_template_errors_name_the_included_file_and_line(load: Load, tmp_path: Path) -> None:
    files = {"templates__a_j2": "one\n{% include 'b.j2' %}", "templates__b_j2": "x\n\n{{ gone }}"}
    with pytest.raises(InputError, match=r"templates/b\.j2:3: 'gone' is undefined"):
        rendered(load, tmp_path, "{% include 'a.j2' %}", TWO, **files)


def test_a_syntax_error_names_the_template(load: Load, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"templates/b\.j2:2: template: "):
        rendered(load, tmp_path, "{% include 'b.j2' %}", TWO, templates__b_j2="x\n{% if %}")


def test_all_bad_rows_are_told_at_once_up_to_a_bound(load: Load, tmp_path: Path) -> None:
    rows = "".join(f'{{"id": {n}}}\n' for n in range(1, 41))
    with pytest.raises(InputError) as caught:
        rendered(load, tmp_path, "{{ text }}", rows)
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1].message == "and 20 more rows with problems"
    told = caught.value.message.splitlines()
    assert [line.partition(": ")[0] for line in told[:3]] == [f"data/rows.jsonl:{n}" for n in (1, 2, 3)]
    assert told[3:] == ["and 17 more rows with this problem", "and 20 more rows with problems"]


def test_problems_that_differ_are_all_told() -> None:
    rows = [Problem("d.jsonl", n, 0, f"row {n}: 'text{n % 2}' is undefined") for n in range(1, 8)]
    others = [Problem("d.jsonl", n, 0, f"this row's id stands at d.jsonl:{n - 1} already") for n in range(10, 20)]
    told = InputError([*rows, *others]).message.splitlines()
    assert told[:3] == [
        "d.jsonl:1: row 1: 'text1' is undefined [BS203]",
        "d.jsonl:2: row 2: 'text0' is undefined [BS203]",
        "d.jsonl:3: row 3: 'text1' is undefined [BS203]",
    ]
    assert len(told) == len(rows) + len(others)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param('{"id": 1, "text": 123456789012345678901}', "beyond 64 bits", id="an integer beyond 64 bits"),
        pytest.param('{"id": 1, "text": 1e999}', "too large for JSON readers", id="an infinite number"),
        pytest.param('{"id": 1, "text": NaN}', "not valid JSON", id="not a number"),
        pytest.param('{"id": 1, "text": "\\ud800"}', "half of a surrogate pair", id="a lone surrogate"),
        pytest.param("[1]", "each line must be a JSON object", id="no object"),
        pytest.param('{"text": "a"}', "no column id", id="no id"),
        pytest.param('{"id": null, "text": "a"}', "must be text or a whole number", id="an id that is null"),
        pytest.param('{"id": "", "text": "a"}', "is empty", id="an empty id"),
    ],
)
def test_rows_that_are_not_right(load: Load, tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        rendered(load, tmp_path, "{{ text }}", '{"id": 0, "text": "good"}\n' + row + "\n")
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == ("data/rows.jsonl", 2)
    assert message in problem.message


def test_numbers_of_64_bits_stay_exact(load: Load, tmp_path: Path) -> None:
    rows = '{"id": 18446744073709551615, "text": -9223372036854775808}\n'
    assert contents(rendered(load, tmp_path, "{{ id }} {{ text }}", rows)) == [
        "18446744073709551615 -9223372036854775808"
    ]


def test_a_doubled_id_is_told_with_both_places(load: Load, tmp_path: Path) -> None:
    """And by its name, which is the input's: it is left out where a review must not show the input."""
    rows = TWO + '\n{"id": "jo@example.com", "text": "c"}\n{"id": "jo@example.com", "text": "d"}\n'
    with pytest.raises(InputError) as caught:
        rendered(load, tmp_path, "{{ text }}", rows)
    places = "in column id is already used at data/rows.jsonl:4; ids must be unique [BS205]"
    assert caught.value.message == f'data/rows.jsonl:5: the id "jo@example.com" {places}'
    assert caught.value.public == f"data/rows.jsonl:5: this row's id {places}"


@pytest.mark.parametrize("name", ["a" * 500, "é" * 300], ids=["long", "long and wide"])
def test_a_long_doubled_id_is_cut(load: Load, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        rendered(load, tmp_path, "{{ text }}", f'{{"id": "{name}", "text": ""}}\n' * 2)
    assert f'the id "{name[:40]}' in caught.value.message
    assert "… in column id" in caught.value.message
    assert len(caught.value.message) < 250


def test_tojson_is_plain_json(load: Load, tmp_path: Path) -> None:
    rows = '{"id": 1, "text": {"b": "<é>", "a": [1]}}\n'
    assert contents(rendered(load, tmp_path, "{{ text | tojson }}", rows)) == ['{"b": "<é>", "a": [1]}']


def test_columns_that_are_named_like_row_or_vars_do_not_hide_them(load: Load, tmp_path: Path) -> None:
    rows = '{"id": 1, "row": "r", "vars": "v", "range": 3}\n'
    assert contents(rendered(load, tmp_path, "{{ row.row }} {{ vars.list }} {{ range }}", rows)) == ["r [1, 2] 3"]


def test_used_templates_are_pinned_with_what_they_include(load: Load, tmp_path: Path) -> None:
    files: dict[str, Any] = {"templates__a_j2": "{% include 'b.j2' %}", "templates__b_j2": "x"}
    desired = rendered(load, tmp_path, "{% include 'a.j2' %}{{ text }}", TWO, **files)
    assert list(desired.pins.templates) == ["templates/a.j2", "templates/b.j2"]
