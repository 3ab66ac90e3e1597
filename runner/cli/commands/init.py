"""`batchspec init`: start a project that runs at once."""

from __future__ import annotations

import re
import shlex
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.terminal.printing import say
from runner.errors import BatchspecError

_SETTINGS = """\
version: 1
# Part of every idempotency key: keep it once jobs have run.
project: {project}
providers:
  # `--provider local` runs jobs on this machine. `echo` answers with the prompt's own words, for trying things out;
  # `smollm` is a small real model (see the README).
  local: {{kind: local, backend: echo}}
"""

_SPEC = """\
# yaml-language-server: $schema=../.batchspec/schema.json
version: 1
name: hello
model: gpt-4o-mini
parameters: {temperature: 0, max_tokens: 64}
input:
  path: data/hello.jsonl
  id: id
prompt:
  system: You answer in one short sentence.
  user: {template: templates/hello.j2}
output: {path: out/hello.jsonl}
"""

_TEMPLATE = """\
Say hello to {{ name }}, who likes {{ likes }}.
"""

_DATA = """\
{"id": 1, "name": "Ada", "likes": "engines"}
{"id": 2, "name": "Grace", "likes": "compilers"}
{"id": 3, "name": "Edsger", "likes": "short programs"}
"""

_IGNORE = ".batchspec/\n"
_ATTRIBUTES = "specs/*.lock merge=union\nspecs/**/*.lock merge=union\n"


def init(
    folder: Annotated[Path, typer.Argument(help="Project folder. Default: the current one.")] = Path(),
    project: Annotated[str | None, typer.Option("--project", help="Project name. Default: the folder's name.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Your data, a file in the folder: csv, tsv, jsonl, json or parquet."
        ),
    ] = None,
) -> None:
    """Start a project: batchspec.yaml and an example spec with template and data, or a spec for your own data.

    Overwrites nothing.
    """
    name = project or _name(folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise BatchspecError(f"invalid project name {name}", hint="use letters, digits, `.`, `_` and `-`", code="BS808")
    fresh = not any((folder / "specs").glob("*.y*ml"))
    files, summary = _files_for(folder, data) if data is not None else ({}, "")
    files = {"batchspec.yaml": _SETTINGS.format(project=name), **files}
    if data is None and fresh:
        files |= {"specs/hello.yaml": _SPEC, "templates/hello.j2": _TEMPLATE, "data/hello.jsonl": _DATA}
    try:
        for path, text in files.items():
            _write(folder / path, text)
        _add_lines(folder / ".gitignore", _IGNORE)
        _add_lines(folder / ".gitattributes", _ATTRIBUTES)
        _schema(folder)
    except OSError as error:
        raise BatchspecError(f"cannot write {error.filename}: {error.strerror}", code="BS808") from error
    if summary:
        say(f"\n{summary}")
    say("\nTry it on this machine, without a key:")
    if folder.resolve() != Path.cwd():
        say(f"  cd {shlex.quote(str(folder))}")
    say("  batchspec plan --provider local")
    say("  batchspec apply --provider local")


def _files_for(folder: Path, data: Path) -> tuple[dict[str, str], str]:
    """Return a spec and a template made from a data file's columns, and a summary. Raises BatchspecError."""
    from runner.cli.infer_spec import columns_text, inspect_file, spec_text, template_text  # noqa: PLC0415

    root = folder.resolve()
    if not data.is_file():
        raise BatchspecError(
            f"file not found: {data}", hint="name a csv, tsv, jsonl, json or parquet file", code="BS808"
        )
    try:
        path = data.resolve().relative_to(root).as_posix()
    except ValueError:
        raise BatchspecError(
            f"{data} is outside the project folder {root}",
            hint="copy it into the project, for example to data/",
            code="BS808",
        ) from None
    name = _plain_name(Path(path).name.split(".")[0]) or "job"
    found = inspect_file(root, path)
    template = f"templates/{name}.j2"
    spec = f"specs/{name}.yaml"
    if (folder / spec).exists():
        summary = f"Kept the existing {spec}. To start over, delete it and {template}."
    else:
        summary = columns_text(path, template, found)
    return {template: template_text(found), spec: spec_text(name, path, found)}, summary


def _name(folder: Path) -> str:
    return _plain_name(folder.resolve().name) or "project"


def _plain_name(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")[:64]


def _write(path: Path, text: str) -> None:
    if path.exists():
        say(f"kept   {path}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    say(f"wrote  {path}")


def _add_lines(path: Path, text: str) -> None:
    """Add the missing lines; the file may be the user's own."""
    existing = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in text.splitlines() if line not in existing.splitlines()]
    if not missing:
        say(f"kept   {path}")
        return
    gap = "" if not existing or existing.endswith("\n") else "\n"
    path.write_text(existing + gap + "\n".join(missing) + "\n", encoding="utf-8")
    say(f"{'added to' if existing else 'wrote '} {path}")


def _schema(folder: Path) -> None:
    from runner.jobspec.spec_schema import json_schema, schema_text  # noqa: PLC0415
    from runner.state.atomic import private_folder  # noqa: PLC0415

    path = folder / ".batchspec" / "schema.json"
    private_folder(path.parent)
    path.write_text(schema_text(json_schema()), encoding="utf-8")
