"""Whatever stands in a spec is a project or a SpecError: no text makes a traceback."""

from __future__ import annotations

import contextlib
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.cli.terminal.terminal import error_text
from runner.errors import SpecError
from runner.jobspec.loader import load_project
from runner.planner.templates.check import template_problems
from tests.conftest import SPEC

WHOLE = (
    SPEC.replace("output: {path: out/hello.jsonl}", "output: {path: 'out/{{ address }}.jsonl'}")
    + """\
vars: {lang: en, count: 3}
matrix: {temperature: [0, 1], lang: [en, fr], exclude: [{lang: en, temperature: 1}], include: [{lang: en, seed: 1}]}
partition: [date]
moved: {from: old}
retry: {rounds: 2, on: [timeout]}
max_in_flight: {shards: 1, tokens: 5}
tolerate: 1%
webhook: {url: https://example.com/x, secret: {env: BATCHSPEC_WEBHOOK_X}}
shards: {max_requests: 10}
"""
)
LINES = WHOLE.splitlines(keepends=True)
PIECES = st.sampled_from([*LINES, "---\n", "{", "}", "[", "]", ":", " ", "\n", "\t", "- ", "&a ", "*a", "!!x ", "null", "1e999",
                          "-1", "0x1F", ".nan", "{{ vars.x }}", "'", '"', "on", "%", "|\n", "? ", "<<: ", "\u2028", "\ufeff"])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6
)  # fmt: skip
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load(folder: Path, text: str) -> None:
    specs = folder / "specs"
    specs.mkdir(exist_ok=True)
    (specs / "a.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_project(folder, variables={"date": "1"}, provider="local", environ={}, extra_checks=template_problems)
    except SpecError as error:
        told = error_text(error)
    else:
        told = "valid"
    assert told.strip()


@QUIET
@given(st.data())
def test_a_spec_with_pieces_put_in_and_taken_out(tmp_path: Path, data: st.DataObject) -> None:
    text = WHOLE
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        gone = data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(PIECES | st.text(max_size=5)) + text[at + gone :]
    load(tmp_path, text)


@QUIET
@given(st.data())
def test_a_spec_with_any_value_anywhere(tmp_path: Path, data: st.DataObject) -> None:
    import orjson
    import yaml

    value = yaml.safe_load(WHOLE)
    value["retry"] = {"rounds": 2, "on": ["timeout"]}  # PyYAML takes the key for a boolean
    inner, keys = value, sorted(value)
    while True:
        key = data.draw(st.sampled_from(keys))
        below = inner[key]
        if not isinstance(below, dict) or not below or data.draw(st.booleans()):
            break
        inner, keys = below, sorted(below)
    inner[key] = data.draw(VALUES)
    with contextlib.suppress(TypeError):  # integers beyond 64 bits and lone surrogates are no JSON
        load(tmp_path, orjson.dumps(value).decode())
