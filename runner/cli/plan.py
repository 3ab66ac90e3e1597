"""`batchspec plan`: what apply would do, and why."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import (
    AskUnknown,
    JobName,
    Jobs,
    LogFormat,
    NoColor,
    Paths,
    Provider,
    RetryFailed,
    Var,
    Verbose,
    load_jobs,
)


def plan(
    paths: Paths = None,
    job: JobName = None,
    var: Var = None,
    provider: Provider = None,
    offline: Annotated[bool, typer.Option("--offline", help="Don't ask the service.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with 2 where there are changes.")
    ] = False,
    ask_unknown: AskUnknown = None,
    retry_failed: RetryFailed = None,
    jobs: Jobs = None,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    log_format: LogFormat = "console",
) -> None:
    """Show what apply would submit, reuse, wait for and write. Changes nothing on the service."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.console import Terminal, quiet_logs  # noqa: PLC0415
    from runner.executor.observe import Word  # noqa: PLC0415
    from runner.reconciler.explain import explain  # noqa: PLC0415

    project, chosen = load_jobs(paths, var, job, provider)
    quiet_logs()
    word = Word(frozenset(ask_unknown or ()), frozenset(retry_failed or ()))
    with (
        Terminal(verbose=verbose, log_format=log_format, no_color=no_color) as terminal,
        open_project(project, watcher=terminal, jobs=jobs) as opened,
    ):
        planned = opened.plan(chosen, word, offline=offline).plan
    typer.echo(explain(planned), nl=False)
    if planned.errors:
        raise typer.Exit(1)
    if detailed_exitcode and planned.changes:
        raise typer.Exit(2)
