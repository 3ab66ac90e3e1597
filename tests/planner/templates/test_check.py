"""Templates are compiled by `validate` already: all that is wrong with them at once, each thing at its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from runner.cli.terminal.terminal import error_text
from runner.errors import SpecError
from runner.jobspec.loader import load_project
from runner.planner.render import first_requests
from runner.planner.templates.check import template_problems
from tests.conftest import SPEC

Write = Callable[..., Path]
HEAD, TAIL = SPEC.split('prompt:\n  system: Be brief.\n  user: "Say {{ text }}."\n')


def told(root: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_project(root, variables={}, provider=None, environ={}, extra_checks=template_problems)
    return error_text(caught.value)


def with_prompt(prompt: str, **templates: str) -> dict[str, str]:
    files = {f"templates/{name}.j2": text for name, text in templates.items()}
    return {"specs/hello.yaml": f"{HEAD}prompt:\n{prompt}{TAIL}", **files}


def test_all_templates_are_told_at_once(project: Write, snapshot: SnapshotAssertion) -> None:
    """Each line that Jinja gives up at, in files that are asked with and in those that they name; each once."""
    files = with_prompt(
        "  system: |\n    Be brief.\n    {{ vars.x | uper }}\n  user: {template: templates/ask.j2}\n",
        ask='Say\n{% if %}\n{% include "part.j2" %}',
        other='{% include "part.j2" %}\n{% import "gone.j2" as gone %}\n{% include "perhaps.j2" ignore missing %}',
        part="one\ntwo {{ text }\n",
    )
    more = files["specs/hello.yaml"].replace("name: hello", "name: other").replace("out/hello", "out/other")
    files["specs/other.yaml"] = more.replace("templates/ask.j2", "other.j2").replace("| uper", "")
    said = told(project(files))
    assert "specs/hello.yaml:7:11: template, line 2: No filter named 'uper' (did you mean `upper`?)" in said
    assert "templates/ask.j2:2: template:" in said
    assert "templates/other.j2:2: template: there is no template gone.j2" in said
    assert said.count("templates/part.j2:2:") == 1
    assert "perhaps" not in said
    assert said == snapshot


def test_they_come_with_what_else_is_wrong(project: Write) -> None:
    """A spec with a problem of its own does not hide its templates, and no problem is told twice."""
    files = with_prompt("  system: {template: gone.j2}\n  user: {template: ask.j2}\n", ask="{{ text")
    files["specs/hello.yaml"] += "tolerat: 1\n"
    said = told(project(files))
    assert "there is no key `tolerat` here" in said
    assert said.count("gone.j2") == 2  # the message, and the line it is about
    assert "templates/ask.j2:1: template:" in said


def test_a_plan_says_the_same(project: Write) -> None:
    files = with_prompt("  system: '{{ a | uper }}'\n  user: {template: ask.j2}\n", ask="x\n{{ text")
    root = project(files)
    [spec] = load_project(root, variables={}, provider=None, environ={}).jobs
    with pytest.raises(SpecError) as caught:
        list(first_requests(spec, root, 1))
    assert error_text(caught.value) == told(root)


def test_templates_that_compile_are_no_problem(project: Write) -> None:
    """Rows are not read: what a column or a computed name is shows when a row comes."""
    files = with_prompt("  user: {template: ask.j2}\n", ask="{{ nothing.of.this }}{% include 'x-' ~ text %}")
    project_ = load_project(project(files), variables={}, provider=None, environ={}, extra_checks=template_problems)
    assert [job.address for job in project_.jobs] == ["hello"]
