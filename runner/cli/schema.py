"""`batchspec schema`: the JSON Schema of a spec, for editors."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    settings: Annotated[bool, typer.Option("--settings", help="The schema of batchspec.yaml instead.")] = False,
) -> None:
    """Print the JSON Schema (draft-07) of a spec file."""
    from runner.spec.schema import json_schema, schema_text, settings_schema  # noqa: PLC0415

    typer.echo(schema_text(settings_schema() if settings else json_schema()), nl=False)
