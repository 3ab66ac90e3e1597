"""Options that several commands take; `runner.cli.loading` loads what they choose of a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.cli.completion import complete_jobs, complete_providers, complete_specs

Paths = Annotated[
    list[Path] | None,
    typer.Argument(help="Spec files or folders. Default: specs/.", show_default=False, autocompletion=complete_specs),
]
Var = Annotated[list[str] | None, typer.Option("--var", metavar="K=V", help="Set a declared variable. Repeatable.")]
JobName = Annotated[
    list[str] | None,
    typer.Option("--job", metavar="NAME", autocompletion=complete_jobs, help="Only this job; as --select. Repeatable."),
]
Select = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="PATTERN",
        autocompletion=complete_jobs,
        help="Only jobs whose address or name matches; also tag:NAME, state:open|failed|waiting. Repeatable.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        autocompletion=complete_jobs,
        help="Leave out jobs that match, also if --select matches them. Repeatable.",
    ),
]
Due = Annotated[bool, typer.Option("--due", help="Also start periods that are due and never started, oldest first.")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", metavar="N", min=0, help="With --due, start at most N new periods of each job. Default: 7."
    ),
]
Since = Annotated[
    str | None, typer.Option("--from", metavar="PERIOD", help="With --due, start no period before this one.")
]
Until = Annotated[
    str | None, typer.Option("--to", metavar="PERIOD", help="With --due, start no period after this one.")
]
Now = Annotated[
    str | None,
    typer.Option("--now", metavar="TIME", help="Decide by this time which periods are due: 2026-11-02T06:00:00Z."),
]
Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        autocompletion=complete_providers,
        help="Use this provider, not the spec's. Its records are separate.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", min=1, help="Number of rendering processes. Default: one per core."),
]
NoColor = Annotated[bool, typer.Option("--no-color", help="Disable colours, as NO_COLOR does.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Log more to stderr. Repeatable.")]
LogFormat = Annotated[str, typer.Option("--log-format", metavar="console|json", help="Format of logs on stderr.")]
AskUnknown = Annotated[
    list[str] | None,
    typer.Option(
        "--ask-unknown",
        metavar="JOB",
        autocompletion=complete_jobs,
        help="Resubmit requests in state `unknown` (they may be billed twice).",
    ),
]
Prune = Annotated[bool, typer.Option("--prune", help="Cancel running batches of jobs that no spec defines any more.")]
NoNew = Annotated[
    bool,
    typer.Option("--no-new", help="Download, retry and write, but submit no new requests."),
]
Reopen = Annotated[
    bool,
    typer.Option("--reopen", help="Ask selected partitions as they are today, closed ones too. May cost money."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation. Required without a terminal.")]
Strict = Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")]
Exact = Annotated[bool, typer.Option("--exact", help="Count the tokens of every request instead of a sample.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON lines to stdout, for programs. See schemas/.")]
RetryFailed = Annotated[
    list[str] | None,
    typer.Option(
        "--retry-failed",
        metavar="JOB",
        autocompletion=complete_jobs,
        help="Retry failed requests, whatever their error.",
    ),
]
