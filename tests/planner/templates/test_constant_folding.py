"""What is worked out once for all rows, and what is kept from row to row: never to be seen in a row's text."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from runner.planner.templates.constant_folding import MAX_FOLDED_CHARACTERS
from runner.planner.templates.environment import Templates
from runner.planner.templates.step_limit import RowError

VARS: dict[str, Any] = {
    "labels": ["good", "bad"],
    "who": "You",
    "n": 3,
    "half": 0.5,
    "none": None,
    "deep": {"a": {"b": ["x", None]}},
    "items": ["of vars"],
    "inf": float("inf"),
    "huge": 1 << 70,
    "long": "x" * (MAX_FOLDED_CHARACTERS + 1),
}
Rendering = Callable[..., str]


@pytest.fixture
def render(tmp_path: Path) -> Rendering:
    (tmp_path / "templates").mkdir()
    for name, text in {
        "part.j2": "[{{ vars.who }}]",
        "base.j2": "{% set vars = {'who': 'base'} %}{% block b %}{% endblock %}",
        "m.j2": "{% macro say(x) %}<{{ x }}>{% endmacro %}",
        "alone.j2": "{% macro say() %}{{ vars.who }}{% endmacro %}",
        "own.j2": "{% set vars = {'who': 'own'} %}{{ vars.who }}",
    }.items():
        (tmp_path / "templates" / name).write_text(text)

    def rendered(source: str, **row: Any) -> str:
        templates = Templates(tmp_path, copy.deepcopy(VARS))
        return templates.compile_text(source, "t")(templates.namespace(row))

    return rendered


@pytest.mark.parametrize(
    "text",
    [
        "{{ vars.labels | join(', ') }}",
        "{{ vars.labels }}{{ vars['labels'][0] }}{{ vars.labels[1:] }}",
        "{% for one in vars.labels %}{{ loop.index }}{{ one | upper }}{% endfor %}",
        "{% if text in vars.labels and vars.n > 2 %}{{ vars.who ~ text }}{% endif %}",
        "{{ vars.deep.a.b }}{{ vars.deep.a.b[0] }}{{ vars.n + number }}{{ vars.half }}{{ vars.none }}",
        "{{ vars.labels | map('upper') | list }}{{ vars.labels | length }}{{ vars['items'] }}",
        "{% set vars = {'who': text} %}{{ vars.who }}",
        "{% for vars in [{'who': text}] %}{{ vars.who }}{% endfor %}{{ vars.who }}",
        "{% with vars = {'who': text} %}{{ vars.who }}{% endwith %}{{ vars.who }}",
        "{% macro m(vars) %}{{ vars }}{% endmacro %}{{ m(1) }}{{ vars.who }}",
        "{% macro vars() %}{% endmacro %}{{ vars.name }}",
        "{{ vars.labels is sameas vars.labels }}",
        "{% autoescape number > 1 %}{{ vars.labels }}{% endautoescape %}",
        "{{ 'short' if vars.long | length < 5 else 'long' }}",
    ],
)
def test_text_is_what_jinja_gives_with_names_looked_up(render: Rendering, text: str) -> None:
    row = {"text": "good", "number": 2}
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(text)
    assert render(text, **row) == plain.render(**row, row=row, vars=VARS)


def test_names_that_other_templates_set_win(render: Rendering) -> None:
    assert render("{% extends 'base.j2' %}{% block b %}{{ vars.who }}{% endblock %}") == "base"
    assert render("{% set vars = {'who': 'set'} %}{% include 'part.j2' %}") == "[set]"
    assert render("{% import 'm.j2' as vars %}{{ vars.say(1) }}") == "<1>"
    assert render("{% from 'm.j2' import say as vars %}{{ vars('a') }}") == "<a>"
    assert render("{{ vars.who }}{% include 'part.j2' %}{% include 'own.j2' %}{{ vars.who }}") == "You[You]ownYou"
    with pytest.raises(RowError, match="'vars' is undefined"):
        render("{% from 'alone.j2' import say %}{{ say() }}")


@pytest.mark.parametrize("text", ["{{ vars.inf }}", "{{ vars.huge }}", "{{ vars.missing }}", "{{ vars.missing.x }}"])
def test_what_cannot_be_printed_is_the_rows_error_still(render: Rendering, text: str) -> None:
    with pytest.raises(RowError):
        render(text)


def test_working_out_leaves_the_variables_as_they_are(render: Rendering) -> None:
    """Jinja's `indent` changes a list before it fails over it."""
    assert render("{% if no %}{{ vars.labels | indent }}{% endif %}{{ vars.labels }}", no=False) == "['good', 'bad']"


def test_a_template_costs_the_same_when_it_is_compiled_in_the_middle_of_a_row(tmp_path: Path) -> None:
    """Its name is computed, so it is compiled when its row comes; what the row has cost until then stands."""
    (tmp_path / "part-1.j2").write_text("{{ 'a' | upper }}")
    half = "{% for i in range(600000) %}{% endfor %}"
    text = half + "{% include 'part-' ~ n ~ '.j2' %}" + half
    templates = Templates(tmp_path, {})
    render = templates.compile_text(text, "t")
    for _ in range(2):
        with pytest.raises(RowError, match="exceeds 1000000 steps"):
            render(templates.namespace({"n": 1}))


def test_each_template_is_compiled_once(tmp_path: Path) -> None:
    """A stranger's template could have thousands compiled again for each row, which costs no steps."""
    for number in range(500):
        (tmp_path / f"part-{number}.j2").write_text("x")
    templates = Templates(tmp_path, {})
    environment = templates._environment
    render = templates.compile_text("{% for i in range(500) %}{% include 'part-' ~ i ~ '.j2' %}{% endfor %}", "t")
    compiled = 0
    generate = environment._generate

    def counted(*args: Any, **kwargs: Any) -> str:
        nonlocal compiled
        compiled += 1
        return generate(*args, **kwargs)

    environment._generate = counted  # type: ignore[method-assign]
    assert render(templates.namespace({})) == render(templates.namespace({})) == "x" * 500
    assert compiled == 500


@pytest.mark.parametrize(
    "text",
    [
        "{{ n }}{{ missing }}",
        "{% set seen = n %}{{ n }}",
        "{% for i in [1] %}{{ i }}{{ n }}{% endfor %}",
        "{% block b %}{{ n }}{% endblock %}{{ self.b() }}",
        "{{ seen }}{{ n }}",
        "{{ seen | default('none') }}{{ n }}",
    ],
)
def test_no_row_sees_the_row_before(tmp_path: Path, text: str) -> None:
    """One context serves all rows of a template that sets nothing."""
    rows: list[dict[str, Any]] = [{"n": 1, "seen": "first"}, {"n": 2}, {"n": 3, "missing": "", "seen": ""}]

    def results(compiled: Callable[[], Callable[[dict[str, Any]], str]]) -> list[str]:
        found = []
        for row in rows:
            try:
                found.append(compiled()(Templates(tmp_path, {}).namespace(row)))
            except RowError as error:
                found.append(str(error))
        return found

    once = Templates(tmp_path, {}).compile_text(text, "t")
    assert results(lambda: once) == results(lambda: Templates(tmp_path, {}).compile_text(text, "t"))
