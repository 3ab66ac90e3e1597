"""The verbs by name: what `--help` lists of each, and where it lives.

A verb's module is imported when that verb runs, so that no command pays for what the others need.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

VERBS = {
    "init": "Start a project, from an example or from rows of your own.",
    "validate": "Check specs, and say everything that is wrong at once.",
    "schema": "Print the JSON Schema of what people write or machines read.",
    "render": "Print the first requests, byte for byte as they would go out.",
    "plan": "Show what apply would submit, reuse, wait for and write.",
    "apply": "Submit what is missing, wait, and write the outputs.",
    "status": "Show each job's batches, their counts, and its output.",
    "report": "Write a report of runs, costs and answers.",
    "log": "Show when a job ran, what had changed, and what it cost.",
    "diff": "Show which answers changed between two commits.",
    "cancel": "Cancel the batches of a job that have not ended.",
    "import": "Adopt a batch that was made elsewhere.",
    "forget": "Drop a job or a partition from the lockfile.",
    "verify": "Prove that files and answers are as the lockfile records.",
    "serve": "Run the batch API on this machine.",
    "explain": "Say what an error's code means, and what to do.",
}
"""One line for each verb, in the order of the help. The verb is the function of its name in the module of its name;
`import` is no name in Python, so its module and function are called `import_`."""


class LazyGroup(TyperGroup):
    """The group of all verbs."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, line in VERBS.items():
            self.add_command(_Verb(name=name, short_help=line))


class _Verb(TyperCommand):
    """A verb that has not been imported; with its arguments it becomes the command itself."""

    # Typer vendors click, whose types have no public name: Any stands for them.
    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return self._command().make_context(info_name, args, parent, **extra)

    def _command(self) -> Any:
        name = "import_" if self.name == "import" else self.name
        verb = getattr(import_module(f"runner.cli.commands.{name}"), str(name))
        alone = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
        alone.command(self.name)(verb)
        return typer.main.get_command(alone)
