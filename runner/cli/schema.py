"""`batchspec schema`: JSON Schemas of what people write and of what `--json` and `--out` write."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from runner.cli.printing import give

if TYPE_CHECKING:
    from runner.reconciler.machine import Command


class Of(StrEnum):
    """What a schema describes."""

    SPEC = "spec"
    SETTINGS = "settings"
    PLAN = "plan"
    APPLY = "apply"
    STATUS = "status"
    VERIFY = "verify"
    SAVED_PLAN = "saved-plan"


def schema(
    of: Annotated[
        Of,
        typer.Option(
            help="A spec, batchspec.yaml (settings), a saved plan, or one line of what a command writes with --json."
        ),
    ] = Of.SPEC,
) -> None:
    """Print a JSON Schema: draft-07 for what people write, for editors; 2020-12 for what machines read."""
    from runner.spec.schema import json_schema, schema_text, settings_schema  # noqa: PLC0415

    if of is Of.SPEC:
        found = json_schema()
    elif of is Of.SETTINGS:
        found = settings_schema()
    elif of is Of.SAVED_PLAN:
        from runner.reconciler.saved import saved_schema  # noqa: PLC0415

        found = saved_schema()
    else:
        from runner.reconciler.machine import schema_of  # noqa: PLC0415

        found = schema_of(cast("Command", of.value))
    give(schema_text(found))
