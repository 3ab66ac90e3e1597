"""`init --from`: makes a spec and a template from the first rows of a data file."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import keyword
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import BatchspecError, InputError, Problem

_LOOKED_AT = 10_000
"""Rows that decide which column is unique."""
_START_BYTES = 1 << 20
_RECORDS = 10
"""Records that decide the delimiter."""
_SHOWN = 12
"""Columns that the template names."""
_ID_NAME = re.compile(r"(^|[_\W]|(?<=[a-z]))(id|key|uuid|guid|number|nr|no|sku|code|slug)\W?$", re.IGNORECASE)
_ID_VALUE = re.compile(r"\S{1,64}")
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
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_GUESS = "cp1252"
"""The likeliest encoding of a table that is not UTF-8: that of western Windows programs."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A file's columns in order, those missing in some rows, its id column or "", and its format.

    `delimiter` is empty for the default.
    """

    names: tuple[str, ...]
    partial: frozenset[str]
    id: str
    encoding: str
    delimiter: str


def inspect_file(root: Path, path: str) -> Columns:
    """Return a data file's columns. Raises BatchspecError if it can't be read."""
    encoding = _encoding(root / path)
    delimiter = _delimiter(root, path, encoding)
    rows = _first_rows(root, path, encoding, delimiter)
    if not rows:
        raise BatchspecError(f"{path} has no rows", hint="name a file with at least one row", code="BS808")
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    partial = frozenset(name for name in names if any(name not in row for row in rows))
    return Columns(names, partial, _id(names, rows), encoding, delimiter)


def spec_text(name: str, path: str, columns: Columns) -> str:
    """Return a spec for these columns."""
    lines = [
        "# yaml-language-server: $schema=../.batchspec/schema.json",
        "version: 1",
        f"name: {_quoted(name)}",
        "model: gpt-4o-mini",
        "parameters: {temperature: 0, max_tokens: 200}",
        "input:",
        f"  path: {_quoted(path)}",
        *([f"  encoding: {columns.encoding}"] if columns.encoding != "utf-8" else []),
        *([f"  delimiter: {json.dumps(columns.delimiter)}"] if columns.delimiter else []),
        *([f"  id: {_quoted(columns.id)}"] if columns.id else []),
        "prompt:",
        "  system: You answer in one short sentence.",
        f"  user: {{template: {_quoted(f'templates/{name}.j2')}}}",
        f"output: {{path: {_quoted(f'out/{name}.jsonl')}}}",
    ]
    return "\n".join(lines) + "\n"


def template_text(columns: Columns) -> str:
    """Return a template: columns by name, and a question to replace."""
    shown = [name for name in columns.names if name != columns.id] or list(columns.names)
    lines = [f"{_plain(name)}: {{{{ {_expression(name, name in columns.partial)} }}}}" for name in shown[:_SHOWN]]
    return "\n".join([*lines, "", "What is this about?"]) + "\n"


def columns_text(path: str, template: str, columns: Columns) -> str:
    """Summarize the columns for people, with what to do next."""
    count = len(columns.names)
    identity = f"`{columns.id}` is the id" if columns.id else "no column is a unique id, so rows are numbered"
    lines = [f"{path}: {count} column{'s' if count > 1 else ''}, {identity}. Write your question in {template}."]
    if columns.encoding == _GUESS:
        lines.append(f"It is not UTF-8. `encoding: {_GUESS}` is a guess; check the text with `batchspec render`.")
    return "\n".join(lines)


def _id(names: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Return the id column: one with such a name, else the first with unique values that can be names."""
    fitting = [name for name in names if _unique([row.get(name) for row in rows])]
    named = [name for name in fitting if _ID_NAME.search(name)]
    return next(iter(named or [name for name in fitting if name == names[0] and len(names) > 1]), "")


def _unique(values: Sequence[Any]) -> bool:
    good = all(
        isinstance(value, (str, int)) and not isinstance(value, bool) and _ID_VALUE.fullmatch(str(value))
        for value in values
    )
    return good and len({str(value) for value in values}) == len(values)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
        if path.suffix.lower() not in {".csv", ".tsv"}:
            return "utf-8"
        if start[:2] in _MARKS:
            return _MARKS[start[:2]]
        decoder = codecs.getincrementaldecoder("utf-8")()
        file.seek(0)
        try:
            for piece in itertools.islice(iter(lambda: file.read(1 << 20), b""), 64):
                decoder.decode(piece)
        except UnicodeDecodeError:
            return _GUESS
    return "utf-8"


def _delimiter(root: Path, path: str, encoding: str) -> str:
    from runner.planner.input.streams import InputFiles, open_stream  # noqa: PLC0415

    if ".csv" not in (suffix.lower() for suffix in Path(path).suffixes[-2:]):
        return ""
    try:
        stream = open_stream(root, path, InputFiles(), encoding)
        try:
            text = stream.read(_START_BYTES).decode(errors="replace")
        finally:
            stream.close()
    except (OSError, EOFError, zlib.error, InputError):
        return ""  # reading the rows reports it
    csv.field_size_limit(_START_BYTES)
    columns = {mark: _count(text, mark) for mark in ",;\t|"}
    found = max(columns, key=lambda mark: columns[mark])
    return "" if found == "," else found


def _count(text: str, mark: str) -> int:
    records = itertools.islice(csv.reader(io.StringIO(text, newline=""), delimiter=mark), _RECORDS)
    try:
        counts = {len(record) for record in records if record}
    except csv.Error:
        return 1
    return counts.pop() if len(counts) == 1 else 1


def _first_rows(root: Path, path: str, encoding: str, delimiter: str) -> list[dict[str, Any]]:
    from runner.jobspec.loader import JobSpec  # noqa: PLC0415
    from runner.jobspec.models import Job  # noqa: PLC0415
    from runner.jobspec.settings import LocalProfile  # noqa: PLC0415
    from runner.jobspec.yaml_reader import Document, Lines  # noqa: PLC0415
    from runner.planner.input.parse import RowProblem, rows  # noqa: PLC0415
    from runner.planner.input.source import kind_of, read_chunks  # noqa: PLC0415
    from runner.planner.input.streams import InputFiles  # noqa: PLC0415

    if re.search(r"[*?[]|\{\{|\{%|\{#|\}\}", path):
        raise BatchspecError(
            f"the name {path} contains characters with a meaning in specs", hint="rename the file", code="BS808"
        )
    values = {"version": 1, "name": "look", "model": "any", "prompt": {"user": ""}, "output": {"path": "out.jsonl"}}
    chosen = {"path": path, "encoding": encoding, "delimiter": delimiter, "limit": _LOOKED_AT}
    job = Job.model_validate({**values, "input": chosen})
    try:
        kind_of(path, job.input)
    except ValueError:
        raise BatchspecError(
            f"cannot read rows from {path}: unknown file type",
            hint="the name must end in .csv, .tsv, .jsonl, .ndjson, .json or .parquet; text may be compressed: .csv.gz",
            code="BS808",
        ) from None
    spec = JobSpec(
        job, path, "look", "", "local", LocalProfile(kind="local"), own_provider=True, document=Document(),
        lines=Lines(path, ""),
    )  # fmt: skip
    found = []
    for chunk in read_chunks(root, spec, InputFiles()):
        for record in rows(chunk):
            if isinstance(record, RowProblem):
                raise InputError([Problem(path, record.line, record.column, record.message)])
            found.append(record[1])
    return found


def _expression(name: str, partial: bool) -> str:
    good = name.isidentifier() and name.isascii() and name not in _TAKEN and not keyword.iskeyword(name)
    if good:
        return f'{name} | default("")' if partial else name
    text = json.dumps(name, ensure_ascii=False)
    return f'row.get({text}, "")' if partial else f"row[{text}]"


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[{}%#]", " ", name).split()) or "column"


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", text) and text.lower() not in _YAML_WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)
