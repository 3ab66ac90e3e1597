"""Options that several commands take; what they choose of a project is loaded in `project`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.completion import complete_jobs, complete_providers, complete_specs

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Spec files or folders; specs/ by default.", show_default=False, autocompletion=complete_specs),
]
Var = Annotated[list[str] | None, typer.Option("--var", metavar="K=V", help="Set a declared var; repeatable.")]
JobName = Annotated[
    list[str] | None,
    typer.Option("--job", metavar="NAME", autocompletion=complete_jobs, help="Only this job; repeatable."),
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        autocompletion=complete_providers,
        help="Another provider than the spec's own, kept apart from it.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", min=1, help="Processes that render; one for each core by default."),
]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colours; NO_COLOR does the same.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Log more to stderr; repeatable.")]
LogFormat = Annotated[str, typer.Option("--log-format", metavar="console|json", help="Format of logs on stderr.")]
AskUnknown = Annotated[
    list[str] | None,
    typer.Option(
        "--ask-unknown",
        metavar="JOB",
        autocompletion=complete_jobs,
        help="Ask requests again whose paid answers can't be read.",
    ),
]
Prune = Annotated[bool, typer.Option("--prune", help="Cancel running batches of jobs that have left the specs.")]
NoNew = Annotated[
    bool,
    typer.Option("--no-new", help="Download, retry and write; submit no request that was never asked."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Take warnings for errors.")]
Exact = Annotated[bool, typer.Option("--exact", help="Count the tokens of every request, not of a sample.")]
Json = Annotated[bool, typer.Option("--json", help="Lines of JSON on stdout, for machines; see schemas/.")]
RetryFailed = Annotated[
    list[str] | None,
    typer.Option(
        "--retry-failed",
        metavar="JOB",
        autocompletion=complete_jobs,
        help="Ask failed requests again, whatever their error.",
    ),
]
