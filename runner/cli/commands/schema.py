"""`batchspec schema`: JSON Schemas of specs, settings, saved plans and `--json` output."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from runner.cli.terminal.printing import give

if TYPE_CHECKING:
    from runner.views.json_models import Command


class Of(StrEnum):
    """What a schema describes."""

    SPEC = "spec"
    SETTINGS = "settings"
    PLAN = "plan"
    APPLY = "apply"
    STATUS = "status"
    VERIFY = "verify"
    EVAL = "eval"
    SAVED_PLAN = "saved-plan"


def schema(
    of: Annotated[
        Of,
        typer.Option(help="A spec, batchspec.yaml (settings), a saved plan, or one line of a command's --json output."),
    ] = Of.SPEC,
) -> None:
    """Print a JSON Schema: draft-07 for specs and settings (for editors), 2020-12 for output."""
    from runner.jobspec.spec_schema import json_schema, schema_text, settings_schema  # noqa: PLC0415

    if of is Of.SPEC:
        found = json_schema()
    elif of is Of.SETTINGS:
        found = settings_schema()
    elif of is Of.SAVED_PLAN:
        from runner.reconciler.plan.planfile import saved_schema  # noqa: PLC0415

        found = saved_schema()
    elif of is Of.EVAL:
        from runner.views.eval_json import eval_schema  # noqa: PLC0415

        found = eval_schema()
    else:
        from runner.views.json_lines import schema_of  # noqa: PLC0415

        found = schema_of(cast("Command", of.value))
    give(schema_text(found))
