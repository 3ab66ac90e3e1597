"""Options that several commands take, and loading a project from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.errors import BatchspecError

if TYPE_CHECKING:
    from runner.spec.load import JobSpec, Project

Paths = Annotated[
    list[Path] | None, typer.Argument(help="Spec files or folders; specs/ by default.", show_default=False)
]
Var = Annotated[list[str] | None, typer.Option("--var", metavar="K=V", help="Set a declared var; repeatable.")]
JobName = Annotated[list[str] | None, typer.Option("--job", metavar="NAME", help="Only this job; repeatable.")]
Provider = Annotated[
    str | None,
    typer.Option("--provider", metavar="NAME", help="Another provider than the spec's own, kept apart from it."),
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
    typer.Option("--ask-unknown", metavar="JOB", help="Ask requests again whose paid answers can't be read."),
]
Prune = Annotated[bool, typer.Option("--prune", help="Cancel running batches of jobs that have left the specs.")]
Json = Annotated[bool, typer.Option("--json", help="Lines of JSON on stdout, for machines; see schemas/.")]
RetryFailed = Annotated[
    list[str] | None,
    typer.Option("--retry-failed", metavar="JOB", help="Ask failed requests again, whatever their error."),
]


def load_jobs(
    paths: list[Path] | None, variables: list[str] | None, names: list[str] | None, provider: str | None
) -> tuple[Project, tuple[JobSpec, ...]]:
    """The project and the jobs that were asked for. Raises BatchspecError."""
    import os  # noqa: PLC0415

    from runner.spec.load import find_root, load_project  # noqa: PLC0415

    project = load_project(
        find_root(Path.cwd()), paths or [], variables=_pairs(variables or []), provider=provider, environ=os.environ
    )
    return project, chosen(project, names)


def load_project_at(provider: str | None) -> Project:
    """The whole project here. Raises BatchspecError."""
    return load_jobs(None, None, None, provider)[0]


def chosen(project: Project, names: Sequence[str] | None) -> tuple[JobSpec, ...]:
    """The jobs called `names`, all without any. Raises BatchspecError for a name that is none."""
    known = {job.address: job for job in project.jobs}
    for name in names or ():
        if name not in known:
            raise BatchspecError(f"there is no job {name}", hint=f"the jobs are: {', '.join(known) or 'none'}")
    return tuple(job for job in project.jobs if not names or job.address in names)


def _pairs(variables: list[str]) -> dict[str, str]:
    pairs = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BatchspecError(f"--var {text}: write it as NAME=VALUE")
        pairs[name] = value
    return pairs
