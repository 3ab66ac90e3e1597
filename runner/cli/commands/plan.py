"""`batchspec plan`: what apply would do, and why."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from runner.cli.loading import check_reopen, choice_of, choose, given_choice, read_project, validate_job_options
from runner.cli.options import (
    AskUnknown,
    Due,
    Exact,
    Exclude,
    JobName,
    Jobs,
    Json,
    Limit,
    LogFormat,
    NoColor,
    NoNew,
    Now,
    Paths,
    Provider,
    Prune,
    Reopen,
    RetryFailed,
    Select,
    Since,
    Strict,
    Until,
    Var,
    Verbose,
)
from runner.cli.out_file import check_overwrite
from runner.cli.saved_plan import planned_jobs, saved_plan
from runner.cli.terminal.printing import say, say_error
from runner.errors import BatchspecError

if TYPE_CHECKING:
    from runner.reconciler.observe.observe import ApplyOptions


def plan(
    paths: Paths = None,
    job: JobName = None,
    select: Select = None,
    exclude: Exclude = None,
    due: Due = False,
    limit: Limit = None,
    since: Since = None,
    until: Until = None,
    now: Now = None,
    var: Var = None,
    provider: Provider = None,
    offline: Annotated[bool, typer.Option("--offline", help="Don't contact the service.")] = False,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit with code 2 if there are changes.")
    ] = False,
    ask_unknown: AskUnknown = None,
    retry_failed: RetryFailed = None,
    prune: Prune = False,
    no_new: NoNew = False,
    reopen: Reopen = False,
    within: Annotated[
        Path | None,
        typer.Option("--within", metavar="FILE", help="Plan only a saved plan's jobs, and fail beyond its limits."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Save the plan; overwrites only an older plan. `apply FILE` does nothing beyond it.",
        ),
    ] = None,
    form: Annotated[
        Literal["text", "markdown"], typer.Option("--format", help="markdown is for pull request comments.")
    ] = "text",
    allow_errors: Annotated[
        bool, typer.Option("--allow-errors", help="Save the plan of the jobs without errors, if others have some.")
    ] = False,
    exact: Exact = False,
    strict: Strict = False,
    as_json: Json = False,
    jobs: Jobs = None,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    log_format: LogFormat = "console",
) -> None:
    """Show what apply would submit, reuse, wait for and write. Changes nothing on the service."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.terminal.json_writer import lines_of  # noqa: PLC0415
    from runner.cli.terminal.plan_printer import show_plan  # noqa: PLC0415
    from runner.cli.terminal.terminal import Terminal  # noqa: PLC0415
    from runner.operations.planned import kept_to, refuse_unknown  # noqa: PLC0415
    from runner.operations.selection import Scope  # noqa: PLC0415
    from runner.reconciler.observe.observe import ApplyOptions  # noqa: PLC0415
    from runner.reconciler.plan.planfile import plan_key  # noqa: PLC0415
    from runner.state.atomic import write_if_changed  # noqa: PLC0415

    with lines_of("plan", wanted=as_json) as lines:
        if out is not None:
            check_overwrite(out, "a saved plan")
        choice = given_choice(
            job,
            select,
            exclude,
            due=due,
            limit=limit,
            since=since,
            until=until,
            now=now,
            named=(*(ask_unknown or ()), *(retry_failed or ())),
            closed=reopen,
        )
        check_reopen(job, select, var, reopen=reopen, no_new=no_new)
        with _reviewed(wanted=form == "markdown" and not as_json):
            project = read_project(paths, var, provider, allow_partial=True, tolerant=True)
            bound = None if within is None else saved_plan(within, project)
            found = choose(project, choice_of(choice, bound), Scope.RUN, strict=strict)
        project, chosen = found.project, found.jobs
        if within is not None and bound is not None:
            chosen = planned_jobs(bound, within, project, chosen)
        validate_job_options(project, chosen, ask_unknown, retry_failed, prune=prune)
        options = ApplyOptions(frozenset(ask_unknown or ()), frozenset(retry_failed or ()), prune, no_new, reopen)
        with (
            Terminal(verbose=verbose, log_format=log_format, no_color=no_color) as terminal,
            open_project(project, watcher=terminal, jobs=jobs, reads=True) as opened,
        ):
            made = opened.plan(
                chosen,
                options,
                offline=offline,
                exact=exact,
                review=form == "markdown",
                strict=strict,
                new=found.new,
            )
        planned = made.plan
        if lines is not None:
            lines.plan(planned)
        elif form == "markdown":
            from runner.views.plan_markdown import markdown  # noqa: PLC0415

            say(markdown(planned), end="")
        else:
            show_plan(planned, opened.context.places.root, no_color=no_color)
        if strict:
            refuse_unknown(planned)
        if bound is not None and out is None:
            kept_to(bound, made)
        if out is not None:
            write_if_changed(
                out, made.saved(project.settings.project, plan_key(os.environ), bound, allow_errors=allow_errors)
            )
            say_error(f"Saved as {out}. To apply nothing beyond it, run: {_to_apply(out, options, provider, var, now)}")
    if planned.errors or (strict and planned.waiting):
        raise typer.Exit(1)
    if detailed_exitcode and planned.changes:
        raise typer.Exit(2)


def _to_apply(
    out: Path, options: ApplyOptions, provider: str | None, variables: list[str] | None, now: str | None
) -> str:
    arguments = [
        *(part for one in variables or () for part in ("--var", one)),
        *(("--provider", provider) if provider else ()),
        *(("--now", now) if now else ()),
        *(part for one in sorted(options.ask_unknown) for part in ("--ask-unknown", one)),
        *(part for one in sorted(options.retry_failed) for part in ("--retry-failed", one)),
        *(("--prune",) if options.prune else ()),
        *(("--no-new",) if options.no_new else ()),
        *(("--reopen",) if options.reopen else ()),
    ]
    return shlex.join(["batchspec", "apply", str(out), *arguments])


@contextmanager
def _reviewed(*, wanted: bool) -> Iterator[None]:
    """Print the error as markdown too, if specs can't be read: a pull request shows nothing else."""
    try:
        yield
    except BatchspecError as error:
        if wanted:
            from runner.views.plan_markdown import refused  # noqa: PLC0415

            say(refused(error.message), end="")
        raise
