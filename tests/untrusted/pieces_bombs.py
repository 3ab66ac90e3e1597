"""Attacks that would take for ever, or fill memory or disk."""

from __future__ import annotations

from tests.untrusted.checkout import Piece

_LISTS = (
    "{% set ns = namespace(x=[], y=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
    "{% set ns.y = [ns.y, ns.y] %}{% endfor %}{% for i in [ns.x, ns.y] %}{{ loop.changed(i) }}{% endfor %}"
)
PIECES = [
    Piece("changed-lists", user=f"'{_LISTS}'"),
    Piece("wide-text", user="\"{{ ('x' * 4000000)|wordwrap(1) }}\""),
    Piece("formatted-test", user="\"{{ '%500000000d' is odd }}\""),
    Piece("many-tokens", files={"templates/many.j2": "{{ text }}" * 60_000}, user="{template: templates/many.j2}"),
    Piece("deep-glob", input=f"{{path: '{'**/' * 40}*.nothing', id: id}}"),
    Piece("linked-glob", links={"loop/a": ".", "loop/b": "."}, input=f"{{path: 'loop/{'*/' * 40}*.nothing', id: id}}"),
    Piece("base-60", spec="version: 1\nname: " + "1:" * 400_000 + "1\n"),
    Piece("nested-yaml", spec="version: " + "[" * 100_000),
    Piece("query-of-all", input='{sql: "SELECT 1 AS id FROM range(9) a WHERE a.range < 0", id: id}'),
]
