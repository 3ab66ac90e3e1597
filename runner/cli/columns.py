"""`init --from`: a spec and a template for rows that are there already, made from a look at the first of them."""

from __future__ import annotations

import json
import keyword
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import BatchspecError

_LOOKED_AT = 10_000
"""Rows that are looked at to tell which column is unique."""
_SHOWN = 12
"""Columns that the template names."""
_TAKEN = {
    "row",
    "vars",
    "range",
    "dict",
    "cycler",
    "joiner",
    "namespace",
    "loop",
    "self",
    "super",
    "true",
    "false",
    "none",
}
"""Names that mean something else in a template."""
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True, slots=True)
class Columns:
    """A file's columns, in order, and the one that is an id, or empty."""

    names: tuple[str, ...]
    id: str


def look(root: Path, path: str) -> Columns:
    """The columns of a data file. Raises BatchspecError where it can't be read."""
    rows = _first_rows(root, path)
    if not rows:
        raise BatchspecError(f"{path} has no rows", hint="name a file with at least one row")
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    unique = [name for name in names if _unique([row.get(name) for row in rows])]
    named = [name for name in unique if re.search(r"(^|[_\W])(id|key|uuid|guid|number|nr|no)$", name, re.IGNORECASE)]
    return Columns(names, (named or unique or [""])[0])


def spec_text(name: str, path: str, columns: Columns) -> str:
    """The spec for them."""
    lines = [
        "# yaml-language-server: $schema=../.batchspec/schema.json",
        "version: 1",
        f"name: {_quoted(name)}",
        "model: gpt-4o-mini",
        "parameters: {temperature: 0, max_tokens: 200}",
        "input:",
        f"  path: {_quoted(path)}",
        *([f"  id: {_quoted(columns.id)}"] if columns.id else []),
        "prompt:",
        "  system: You answer in one short sentence.",
        f"  user: {{template: {_quoted(f'templates/{name}.j2')}}}",
        f"output: {{path: {_quoted(f'out/{name}.jsonl')}}}",
    ]
    return "\n".join(lines) + "\n"


def template_text(columns: Columns) -> str:
    """The template for them: each column by name, and a question to replace."""
    shown = [name for name in columns.names if name != columns.id][:_SHOWN] or list(columns.names[:_SHOWN])
    lines = [f"{_plain(name)}: {{{{ {_expression(name)} }}}}" for name in shown]
    return "\n".join([*lines, "", "What is this about?"]) + "\n"


def _first_rows(root: Path, path: str) -> list[dict[str, Any]]:
    from runner.planner.files import InputFiles  # noqa: PLC0415
    from runner.planner.rows import Trouble, rows  # noqa: PLC0415
    from runner.planner.sources import read_chunks  # noqa: PLC0415
    from runner.spec.load import load_project  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=root, prefix=".batchspec-init-") as folder:
        spec = Path(folder) / "look.yaml"
        spec.write_text(_LOOK.format(path=json.dumps(path), limit=_LOOKED_AT), encoding="utf-8")
        [job] = load_project(root, [spec], variables={}, provider="local", environ={}).jobs
        found = []
        for chunk in read_chunks(root, job, InputFiles()):
            for record in rows(chunk):
                if isinstance(record, Trouble):
                    from runner.errors import InputError, Problem  # noqa: PLC0415

                    raise InputError([Problem(path, record.line, record.column, record.message)])
                found.append(record[1])
    return found


_LOOK = """\
version: 1
name: look
model: any
input: {{path: {path}, limit: {limit}}}
prompt: {{user: any}}
output: {{path: out/look.jsonl}}
"""


def _unique(values: list[Any]) -> bool:
    good = all(isinstance(value, (str, int)) and not isinstance(value, bool) and value != "" for value in values)
    return good and len({str(value) for value in values}) == len(values)


def _expression(name: str) -> str:
    good = name.isidentifier() and name.isascii() and name not in _TAKEN and not keyword.iskeyword(name)
    return name if good else f"row[{json.dumps(name, ensure_ascii=False)}]"


def _plain(name: str) -> str:
    """A column's name as text of a template, where braces would mean something."""
    return re.sub(r"[{}%#]", " ", name).strip() or "column"


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
