"""Attacks on the terminal of whoever reads a plan: escape sequences, bidirectional and invisible characters."""

from __future__ import annotations

import json

from tests.untrusted.checkout import Piece

_EVIL = "\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[2J\x9b2J\x7f\u202e\u2066\u061c\u200b\u00ad\u3164\U000e0041"
_QUOTED = r'"gpt\e]52;c;aGk=\a\e[2J\x9b2J\u202e\u2066\u061c\u200b\u00ad\u3164\U000E0041"'
_SPEC = """\
version: 1
name: {name}
provider: local
model: {model}
parameters: {{max_tokens: 8}}
input: {{rows: [{{id: 1, text: one}}], id: id}}
prompt: {{user: "{{{{ text }}}}"}}
output: {{path: out/{name}.jsonl}}
"""

PIECES = [
    Piece("terminal-model", spec=_SPEC.format(name="terminal-model", model=_QUOTED)),
    Piece("terminal-yaml", spec=f"version: 1\nname: a: {_EVIL[-6:]}\n"),
    Piece("terminal-field", spec=_SPEC.format(name="terminal-field", model="x") + f"{_QUOTED}: 1\n"),
    Piece(
        "terminal-row",
        files={"data/evil.jsonl": json.dumps({"id": _EVIL, "text": _EVIL}) + "\n"},
        input="{path: data/evil.jsonl, id: id}",
        user='"{{ row[text] }}"',
    ),
    Piece(
        "terminal-template",
        files={"templates/evil.j2": "{{ a." + _EVIL},
        user="{template: templates/evil.j2}",
    ),
    Piece(
        "terminal-file",
        files={"batchspec.yaml": "version: 1\nproject: hostile\n", f"specs/t{_EVIL}.yaml": "version: 2\n"},
        spec=None,
        folder="terminal-file",
    ),
]
