"""Vars in SQL: parameters that DuckDB binds, with the period as dates; and inputs without rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.errors import InputError, NoInput, SpecError
from runner.jobspec.loader import JobSpec, Project, bind, load_project
from runner.planner.render import first_requests, render_job
from tests.conftest import SPEC
from tests.sampling import sampled

Write = Callable[..., Path]
OUTPUT = SPEC.replace("out/hello.jsonl", '"out/{{ address }}.jsonl"')
DAILY = "partition: {date: {every: day, start: 2026-11-01, timezone: Europe/Berlin}}\n"
HOURLY = "partition: {date: {every: hour, start: 2026-11-01T00Z}}\n"
WEEKLY = "partition: {date: {every: week, start: 2026-W44}}\n"


def spec_of(
    project: Write, input_: str, more: str, files: dict[str, str] | None = None, **values: str
) -> tuple[JobSpec, Path]:
    text = OUTPUT.replace("{path: data/rows.jsonl, id: id}", input_) + more
    root = project({"specs/hello.yaml": text, **(files or {})})
    loaded: Project = load_project(root, variables={}, provider="local", environ={}, allow_partial=True)
    made = bind(loaded, loaded.unbound[0], values, {}) if loaded.unbound else loaded.jobs[0]
    return made, root


def texts(spec: JobSpec, root: Path) -> list[Any]:
    return [orjson.loads(line)["body"]["messages"][1]["content"] for _, line in first_requests(spec, root, 10)]


@pytest.mark.parametrize(
    ("more", "select", "values", "expected"),
    [
        (DAILY, "typeof($date) || ' ' || $date || ' ' || $date_end", {"date": "2026-11-30"}, "DATE 2026-11-30 2026-12-01"),
        (HOURLY, "typeof($date) || ' ' || $date_end", {"date": "2026-11-30T23Z"}, "TIMESTAMP 2026-12-01 00:00:00"),
        (WEEKLY, "$date || ' ' || $date_end", {"date": "2026-W44"}, "2026-10-26 2026-11-02"),
        ("vars: {n: 7, s: \"it's\", l: [de, fr], unused: 1}\n", "typeof($n) || $s || $l[2] || '$n'", {}, "INTEGERit'sfr$n"),
    ],
)  # fmt: skip
def test_vars_are_bound(project: Write, more: str, select: str, values: dict[str, str], expected: str) -> None:
    spec, root = spec_of(project, f'{{sql: "SELECT 1 AS id, {select} AS text", id: id}}', more, None, **values)
    assert texts(spec, root) == [f"Say {expected}."]


def test_a_row_is_chosen_by_its_day(project: Write) -> None:
    rows = "id,day,text\n1,2026-11-01,one\n2,2026-11-02,two\n"
    sql = "{sql: \"SELECT id, text FROM 'data/rows.csv' WHERE day = $date\", id: id}"
    spec, root = spec_of(project, sql, DAILY, {"data/rows.csv": rows}, date="2026-11-02")
    assert texts(spec, root) == ["Say two."]


def test_an_unknown_parameter_names_the_known_ones(project: Write) -> None:
    spec, root = spec_of(project, '{sql: "SELECT $shop AS id, 1 AS text", id: id}', DAILY, date="2026-11-02")
    with pytest.raises(InputError, match=r"no var for \$shop; the vars of this job are: \$date, \$date_end"):
        texts(spec, root)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT '{{ vars.date }}' AS id", r"`{{ vars.date }}` would be plain text; write \$date"),
        ("SELECT '{{date}}' AS id", r"write \$date"),
        ("SELECT '{{ 1 + 1 }}' AS id", r"write \$NAME"),
    ],
)
def test_a_placeholder_in_sql_is_an_error(project: Write, sql: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_of(project, f'{{sql: "{sql}", id: id}}', "")


def test_a_var_with_the_name_of_the_end_is_refused(project: Write) -> None:
    with pytest.raises(SpecError, match="the var `date_end` is the end of `date` in SQL"):
        spec_of(project, "{path: data/rows.jsonl, id: id}", DAILY + "vars: {date_end: 1}\n", date="2026-11-02")


PATH, GLOB = "path: data/gone.jsonl, id: id", "path: 'data/gone-*.jsonl', id: id"
EMPTY = "path: data/empty.jsonl, id: id"
QUERY = "sql: \"SELECT 1 AS id, 'x' AS text WHERE false\", id: id"
NO_FILE = "sql: \"SELECT id, text FROM 'data/gone.csv'\", id: id"
NO_MATCH = "sql: \"SELECT id, text FROM 'data/gone*.csv'\", id: id"
FILES = {"data/empty.jsonl": "", "data/rows.jsonl": ""}


@pytest.mark.parametrize("input_", sampled([PATH, GLOB, "text: 'data/gone/*.txt'", EMPTY, QUERY, NO_FILE, NO_MATCH], 1))
def test_a_period_without_rows_waits_or_is_empty(project: Write, tmp_path: Path, input_: str) -> None:
    spec, root = spec_of(project, f"{{{input_}}}", DAILY, FILES, date="2026-11-02")
    with pytest.raises(NoInput):
        render_job(spec, root, tmp_path / "waits")
    spec, root = spec_of(project, f"{{{input_}, empty: allow}}", DAILY, FILES, date="2026-11-02")
    assert render_job(spec, root, tmp_path / "scratch", keep_in=tmp_path / "kept").spool.rows == 0


@pytest.mark.parametrize("empty", ["warn", "allow"])
def test_other_jobs_may_be_empty_but_not_without_their_file(project: Write, tmp_path: Path, empty: str) -> None:
    spec, root = spec_of(project, f"{{{EMPTY}, empty: {empty}}}", "", FILES)
    assert render_job(spec, root, tmp_path / "one").spool.rows == 0
    spec, root = spec_of(project, f"{{{PATH}, empty: {empty}}}", "", FILES)
    with pytest.raises(InputError, match="there is no input file"):
        render_job(spec, root, tmp_path / "two")
    spec, root = spec_of(project, f"{{{EMPTY}, empty: error}}", "", FILES)
    with pytest.raises(InputError, match=r"the input has no rows .BS212."):
        render_job(spec, root, tmp_path / "three")


def test_a_mistake_in_the_path_is_no_missing_input(project: Write, tmp_path: Path) -> None:
    for path in ("data", "https://example.com/x.jsonl"):
        spec, root = spec_of(project, f"{{path: '{path}', id: id, empty: allow}}", DAILY, date="2026-11-02")
        with pytest.raises(InputError) as caught:
            render_job(spec, root, tmp_path / "scratch")
        assert not isinstance(caught.value, NoInput)


def test_the_meaning_of_no_rows_changes_no_pins(project: Write, tmp_path: Path) -> None:
    pins = []
    for number, empty in enumerate(("", ", empty: allow")):
        spec, root = spec_of(project, f"{{path: data/rows.jsonl, id: id{empty}}}", "")
        pins.append(render_job(spec, root, tmp_path / str(number)).pins)
    assert pins[0] == pins[1]
