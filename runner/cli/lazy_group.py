"""The commands by name. A command's module is imported only when the command runs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

VERBS = {
    "init": "Start a project from an example or from your own data.",
    "validate": "Check specs and report every problem at once.",
    "schema": "Print the JSON Schema of a spec, of settings or of --json output.",
    "render": "Print the first requests exactly as they would be uploaded.",
    "plan": "Show what apply would submit, reuse, wait for and write.",
    "apply": "Submit what is missing, wait, and write the outputs.",
    "status": "Show each job's progress, cost, output and batches.",
    "report": "Write a report of runs, costs and answers.",
    "log": "Show when a job ran, what changed and what it cost.",
    "diff": "Show which answers changed between two commits.",
    "cancel": "Cancel a job's running batches.",
    "import": "Adopt a batch that was created elsewhere.",
    "forget": "Remove a job or a partition from the lockfile.",
    "verify": "Check that requests and outputs match the lockfile.",
    "eval": "Grade answers, compare them with a baseline, check gates.",
    "listen": "Receive webhooks and continue their jobs.",
    "serve": "Run the batch API on this machine.",
    "explain": "Explain an error code and how to fix it.",
}
"""The help line of each command, in order. Command NAME is function NAME in module NAME (`import_` and `eval_`)."""


class LazyGroup(TyperGroup):
    """The group of all commands."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, line in VERBS.items():
            self.add_command(_Verb(name=name, short_help=line))


class _Verb(TyperCommand):
    """A command that has not been imported. With its arguments it becomes the command itself."""

    # Typer vendors click, whose types have no public name: Any stands for them.
    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._command().make_context(info_name, args, parent, **extra)

    def _command(self) -> Any:
        name = f"{self.name}_" if self.name in {"import", "eval"} else self.name
        verb = getattr(import_module(f"runner.cli.commands.{name}"), str(name))
        alone = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
        alone.command(self.name)(verb)
        return typer.main.get_command(alone)
