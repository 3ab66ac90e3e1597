"""Templates: a stranger's can reach nothing, runs not on, and prints what the docs say; filters are what people miss."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.planner.templates.environment import Templates
from runner.planner.templates.step_limit import RowError

ROW: dict[str, Any] = {
    "text": "one",
    "number": 2,
    "items": [1, 2, 3],
    "people": [{"name": "Ada", "age": 36}, {"name": 'Bo "B"', "age": 7}],
    "nested": {"a": {"b": [None, True, 1.5]}},
    "html": "<a href='x'>&\"</a>",
}


def render(text: str, root: Path = Path("/nowhere"), **row: Any) -> str:
    templates = Templates(root, {"x": [1, 2]})
    return templates.compile_text(text, "t")(templates.namespace({**ROW, **row}))


METHODS: dict[str, Any] = {
    **{name: f"{name} of the row" for name in ("items", "keys", "values", "copy", "get", "pop", "update", "clear")},
    "a": {"items": ["deep"], "b": {"keys": "deeper"}},
    "list": [{"items": "x", "values": 1}, {"items": "y", "values": 2}],
    "plain": {"x": 1},
}


@pytest.mark.parametrize(
    ("text", "out"),
    [
        *(pytest.param(f"{{{{ row.{name} }}}}", f"{name} of the row", id=name) for name in METHODS if name not in {"a", "list", "plain"}),
        pytest.param("{{ row['items'] }} {{ items }}", "items of the row items of the row", id="in brackets and alone"),
        pytest.param("{{ row.a.items[0] }} {{ row.a.b.keys }} {{ a.b.keys }}", "deep deeper deeper", id="at any depth"),
        pytest.param("{% for x in row.a.items %}{{ x }}{% endfor %}", "deep", id="in a loop"),
        pytest.param("{% for x in row.list %}{{ x.items }}{{ x.values }}{% endfor %}", "x1y2", id="in a list"),
        pytest.param("{{ row.list | map(attribute='items') | join }}", "xy", id="map"),
        pytest.param("{{ row.list | sum(attribute='values') }}", "3", id="sum"),
        pytest.param("{{ row.list | selectattr('items', 'eq', 'y') | map(attribute='values') | first }}", "2", id="selectattr"),
        pytest.param("{{ row.items | upper }} {{ row.get is string }}", "ITEMS OF THE ROW True", id="filter and test"),
        pytest.param("{% for k, v in row.plain.items() %}{{ k }}{{ v }}{% endfor %}", "x1", id="the method"),
        pytest.param("{{ row.list[0].items() | list }}", "[('items', 'x'), ('values', 1)]", id="the method beside a column"),
        pytest.param("{{ row.get('a').b.get('keys') }} {{ row.plain.keys() | list }}", "deeper ['x']", id="get and keys"),
        pytest.param("{{ vars.x.copy() | length }}{{ {'items': 1}.items() | length }}", "21", id="of vars and constants"),
    ],
)  # fmt: skip
def test_a_column_may_have_the_name_of_a_method(text: str, out: str) -> None:
    """`row.items` is the column; `row.items()` is the method, also where there is such a column."""
    assert render(text, **METHODS) == out


@pytest.mark.parametrize(
    ("text", "out"),
    [
        pytest.param("{% for i in items %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}", "1/3,2/3,3/3", id="loop"),
        pytest.param("{% for k, v in people[0].items() %}{{ k }}={{ v }};{% endfor %}", "name=Ada;age=36;", id="items"),
        pytest.param("{% for p in people if p.age > 8 %}{{ p.name }}{% else %}none{% endfor %}", "Ada", id="filtered loop"),
        pytest.param("{% for i in missing_list|default([]) %}x{% else %}none{% endfor %}", "none", id="empty loop"),
        pytest.param("{{ '%.2f' | format(1.234) }} {{ '%-5s|' % text }}{{ '{:>4}'.format(number) }}", "1.23 one  |   2", id="formats"),
        pytest.param("{{ 'a' * 3 ~ (1 + 2) }}", "aaa3", id="arithmetic"),
        pytest.param("{{ items|map('string')|join('-') }} {{ items|sum }} {{ range(3)|list }}", "1-2-3 6 [0, 1, 2]", id="filters"),
        pytest.param("{{ '-'.join(items|map('string')) }}{{ '-'.join(['a', text]) }}", "1-2-3a-one", id="join of what comes one by one"),
        pytest.param("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(1) ~ m(text) }}", "<1><one>", id="macro"),
        pytest.param("{% set x %}a{{ number }}{% endset %}{{ x|upper }}", "A2", id="set block"),
        pytest.param("{% filter upper %}a{{ text }}{% endfilter %}", "AONE", id="filter block"),
        pytest.param("{{ 'é 😀'|tojson }} {{ nested|tojson }}", '"é 😀" {"a": {"b": [null, true, 1.5]}}', id="tojson"),
        pytest.param("{{ {'a': 1}|tojson(indent=2) }}", '{\n  "a": 1\n}', id="tojson, indented"),
        pytest.param("{{ people|csv }}", 'name,age\nAda,36\n"Bo ""B""",7', id="csv of mappings"),
        pytest.param("{{ [[1, 'a,b'], [2, none]]|csv(header=false, delimiter=';') }}", "1;a,b\n2;", id="csv of lists"),
        pytest.param("{{ items|csv }}", "1\n2\n3", id="csv of values"),
        pytest.param("{{ '  a\n    b\n  c'|dedent }}", "a\n  b\nc", id="dedent"),
        pytest.param("{{ html|xml_escape }}", "&lt;a href=&apos;x&apos;&gt;&amp;&quot;&lt;/a&gt;", id="xml_escape"),
        pytest.param("{{ 'The quick brown fox jumps'|truncate_tokens(3) }}", "The quick brown", id="truncate_tokens"),
        pytest.param("{{ 'The quick brown fox'|truncate_tokens(2, '…') }}", "The quick…", id="truncate_tokens with an end"),
        pytest.param("{{ 'short'|truncate_tokens(50, '…') }}", "short", id="truncate_tokens, nothing to cut"),
        pytest.param("{{ '日本語🧿🧿'|truncate_tokens(3) }}", "日本語", id="truncate_tokens, no half characters"),
    ],
)  # fmt: skip
def test_what_templates_can_do(text: str, out: str) -> None:
    assert render(text) == out


@pytest.mark.parametrize("text", ["{{ 7|csv }}", "{{ 'a'|csv }}", "{{ text|truncate_tokens('x') }}", "{{ text|truncate_tokens(1, encoding='p50k') }}"])  # fmt: skip
def test_filters_say_what_they_take(text: str) -> None:
    with pytest.raises(RowError):
        render(text)


def test_macros_includes_and_inheritance_come_from_templates(tmp_path: Path) -> None:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "m.j2").write_text("{% macro quoted(x) %}>{{ x }}<{% endmacro %}")
    (folder / "part.j2").write_text("[{{ text }}]")
    (folder / "base.j2").write_text("a {% block b %}{% endblock %} c")
    text = "{% extends 'base.j2' %}{% block b %}{% from 'm.j2' import quoted %}{{ quoted(text) }}{% include 'part.j2' %}{% endblock %}"
    assert render(text, tmp_path) == "a >one<[one] c"


PIECES = st.sampled_from(["{{", "}}", "{%", "%}", "{#", "#}", " for i in items ", "endfor", "if", "endif", "text", "|", "upper", "(", ")",
                          "'", '"', "~", "*", "**", "9", "set x =", "macro m()", "endmacro", "include", "'t.j2'", "items", ".", "[0]",
                          "row", "vars", "loop", "namespace()", " == ", " in ", " is ", "eq", "[1:]", "[", "]", "{", "}", ":", "cycler(1)", "dict", "range(3)",
                          "'%s'", "%", "format", "map('upper')", "list", "join", "sort", "groupby", "int", "round", "striptags", "wordwrap", "indent", "attr", "tojson", "csv", "\n", "raw", "endraw", "block b", "endblock", "-"])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.text(max_size=4), max_size=14).map("".join))
def test_any_text_is_a_prompt_or_an_error_in_words(text: str) -> None:
    with contextlib.suppress(RowError, jinja2.TemplateError):
        assert isinstance(render(text), str)
