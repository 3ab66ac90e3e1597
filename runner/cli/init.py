"""`batchspec init`: a project that runs at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

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
    folder: Annotated[Path, typer.Argument(help="Where; here by default.")] = Path(),
    project: Annotated[
        str | None, typer.Option("--project", help="The project's name; the folder's by default.")
    ] = None,
) -> None:
    """Start a project: batchspec.yaml, an example spec with its template and data. Overwrites nothing."""
    name = project or _name(folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise BatchspecError(f"{name} is no project name", hint="use letters, digits, `.`, `_` and `-`")
    fresh = not any((folder / "specs").glob("*.y*ml"))
    files = {"batchspec.yaml": _SETTINGS.format(project=name)}
    if fresh:
        files |= {"specs/hello.yaml": _SPEC, "templates/hello.j2": _TEMPLATE, "data/hello.jsonl": _DATA}
    try:
        for path, text in files.items():
            _write(folder / path, text)
        _add_lines(folder / ".gitignore", _IGNORE)
        _add_lines(folder / ".gitattributes", _ATTRIBUTES)
        _schema(folder)
    except OSError as error:
        raise BatchspecError(f"cannot write {error.filename}: {error.strerror}") from error
    typer.echo("\nTry it on this machine, without a key:\n  batchspec plan --provider local")
    typer.echo("  batchspec apply --provider local")


def _name(folder: Path) -> str:
    """A project name from the folder's, written into the file once; it is not looked up again."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:64] or "project"


def _write(path: Path, text: str) -> None:
    if path.exists():
        typer.echo(f"kept   {path}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    typer.echo(f"wrote  {path}")


def _add_lines(path: Path, text: str) -> None:
    """Add the lines that are not there yet; the file may be the user's own."""
    standing = path.read_text(encoding="utf-8") if path.exists() else ""
    missing = [line for line in text.splitlines() if line not in standing.splitlines()]
    if not missing:
        typer.echo(f"kept   {path}")
        return
    gap = "" if not standing or standing.endswith("\n") else "\n"
    path.write_text(standing + gap + "\n".join(missing) + "\n", encoding="utf-8")
    typer.echo(f"{'added to' if standing else 'wrote '} {path}")


def _schema(folder: Path) -> None:
    """The schema that the spec's first line names, for editors; thrown away and made again at will."""
    from runner.spec.schema import json_schema, schema_text  # noqa: PLC0415

    path = folder / ".batchspec" / "schema.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema_text(json_schema()), encoding="utf-8")
