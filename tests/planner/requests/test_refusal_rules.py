"""Rows that a service will refuse are counted and named while they are rendered, the same for any number of processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

import runner.planner.cache as cache_module
import runner.planner.render as render_module
from runner.jobspec.loader import Project, load_project
from runner.planner.render import render_job
from runner.reconciler.plan.request_warnings import limits_of, row_warnings

Load = Callable[..., Project]
CLAUDE, GPT = "claude-sonnet-4-0", "gpt-4o-mini"
TEXT = {"user": "{{ text }}"}
PREFILL = {"messages": [{"role": "user", "content": "{{ text }}"}, {"role": "assistant", "content": "{{ pre }}"}]}
JSON = {"response_format": {"type": "json_object"}, "metadata": {"about": "json"}}
LONG = "word " * 130_000


def found(
    load: Load, tmp_path: Path, rows: list[dict[str, Any]], *, jobs: int = 1, hidden: bool = False, **spec: Any
) -> tuple[str, ...]:
    made = {
        "version": 1,
        "name": "job",
        "model": GPT,
        "input": {"path": "data/rows.jsonl", "id": "id"},
        "prompt": TEXT,
        "output": {"path": "out/job.jsonl"},
        **spec,
    }
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    project = load({"specs/hello.yaml": orjson.dumps(made), "data/rows.jsonl": data})
    [one] = project.jobs
    desired = render_job(one, project.root, tmp_path / f"scratch{jobs}", jobs=jobs, limits=limits_of(one))
    return row_warnings(desired, hidden=hidden)


def texts(*values: str, **more: str) -> list[dict[str, Any]]:
    return [{"id": f"r{number}", "text": text, **more} for number, text in enumerate(values)]


@pytest.mark.parametrize(
    ("rows", "spec", "says"),
    [
        pytest.param(texts("a", "", " \n", "b", "\u00a0"), {"model": CLAUDE, "parameters": {"max_tokens": 9}}, ['3 rows ("r1", "r2", "r4"): a message is empty or blank'], id="blank"),
        pytest.param(texts(*[""] * 5), {"model": CLAUDE, "parameters": {"max_tokens": 9}, "input": {"path": "data/rows.jsonl"}}, ["5 rows (1, 2, 3, …): a message is empty"], id="blank, numbered"),
        pytest.param(texts("a", pre="{\n"), {"model": CLAUDE, "parameters": {"max_tokens": 9}, "prompt": PREFILL}, ['1 row ("r0"): the last assistant message ends in white space'], id="prefill"),
        pytest.param(texts("a", pre=""), {"model": CLAUDE, "parameters": {"max_tokens": 9}, "prompt": PREFILL}, [], id="no prefill"),
        pytest.param(texts("", " "), {}, [], id="blank, OpenAI"),
        pytest.param(texts("a json", "JSON", "JsOn", "js on"), {"parameters": JSON}, ['1 row ("r3"): no message names JSON'], id="json_object"),
        pytest.param(texts("a"), {"parameters": JSON, "prompt": {"system": "Answer in JSON", **TEXT}}, [], id="json_object, named"),
        pytest.param(texts("a"), {"endpoint": "/v1/responses", "parameters": {"text": {"format": {"type": "json_object"}}}}, ["no message names JSON"], id="json_object, responses"),
        pytest.param(texts("a", LONG), {}, ['1 row ("r1"): up to 130,001 input tokens (counted with o200k_base) are beyond the context window of gpt-4o-mini, 128,000'], id="window, counted"),
        pytest.param(texts("word " * 127_000), {"parameters": {"max_tokens": 2_000}}, ["127,001 input tokens (counted with o200k_base) and 2,000 for the answer"], id="window, with the answer"),
        pytest.param(texts("word " * 127_000), {}, [], id="window, it fits"),
        pytest.param(texts("word " * 170_000), {"model": CLAUDE, "parameters": {"max_tokens": 9}}, ["input tokens (estimated from bytes) and 9 for the answer"], id="window, estimated"),
        pytest.param(texts(LONG), {"model": "no-such-model"}, [], id="window, not known"),
    ],
)  # fmt: skip
def test_rows_that_are_refused(load: Load, tmp_path: Path, rows: Any, spec: dict[str, Any], says: list[str]) -> None:
    warnings = found(load, tmp_path, rows, **spec)
    assert len(warnings) == len(says)
    assert all(words in warning for words, warning in zip(says, warnings, strict=True))


def test_no_row_is_named_where_the_input_is_hidden(load: Load, tmp_path: Path) -> None:
    [warning] = found(load, tmp_path, texts("a"), hidden=True, parameters=JSON)
    assert warning.startswith("1 row: no message")


def test_counts_and_rows_are_the_same_for_any_number_of_processes(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render_module, "SMALL_CHUNKS", 1)
    rows = texts(*(" " if number % 1_000 == 999 else "x" * 1_000 for number in range(4_000)))
    spec: dict[str, Any] = {"model": CLAUDE, "parameters": {"max_tokens": 9}}
    alone, two = (found(load, tmp_path, rows, jobs=jobs, **spec) for jobs in (1, 2))
    assert (
        alone == two == ('4 rows ("r999", "r1999", "r2999", …): a message is empty or blank, which Anthropic refuses',)
    )


def test_a_kept_rendering_keeps_its_warnings(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MIN_CACHED_BYTES", 1)
    monkeypatch.setattr(render_module, "MIN_CACHED_BYTES", 1)
    found(load, tmp_path, texts("a", "b"), parameters=JSON)
    root = tmp_path / "project"
    [one] = load_project(root, variables={}, provider="local", environ={}).jobs
    fresh, again = (
        render_job(one, root, tmp_path / name, keep_in=tmp_path / "kept", limits=limits_of(one)) for name in ("a", "b")
    )
    assert not (tmp_path / "b" / "rows").exists(), "nothing was rendered"
    assert fresh.findings == again.findings
    assert fresh.findings[0].count == 2
