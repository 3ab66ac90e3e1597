"""`batchspec apply`: make it so."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

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
from runner.errors import BatchspecError

if TYPE_CHECKING:
    from runner.executor.apply import Outcome
    from runner.reconciler.plan import Plan

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def apply(
    paths: Paths = None,
    job: JobName = None,
    var: Var = None,
    provider: Provider = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask; needed where there is no terminal.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit, and leave; a later apply fetches.")] = False,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Stop waiting after 90s, 30m or 24h; batches live on."),
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="With --no-wait, exit with 4 while batches run.")
    ] = False,
    ask_unknown: AskUnknown = None,
    retry_failed: RetryFailed = None,
    jobs: Jobs = None,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    log_format: LogFormat = "console",
) -> None:
    """Submit what is missing, wait, and write the outputs. Shows the plan and asks first."""
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.console import Terminal, quiet_logs  # noqa: PLC0415
    from runner.executor.observe import Word  # noqa: PLC0415
    from runner.reconciler.explain import explain  # noqa: PLC0415

    limit = _duration(timeout)
    project, chosen = load_jobs(paths, var, job, provider)
    quiet_logs()
    word = Word(frozenset(ask_unknown or ()), frozenset(retry_failed or ()))
    with (
        Terminal(verbose=verbose, log_format=log_format, no_color=no_color) as terminal,
        open_project(project, watcher=terminal, jobs=jobs) as opened,
    ):
        planned = opened.plan(chosen, word)
        typer.echo(explain(planned.plan), nl=False)
        _confirm(planned.plan, yes)
        broken = planned.plan.errors
        prepared = [one for one in planned.prepared if one.desired.spec.address not in broken]
        try:
            outcomes = opened.apply(prepared, word, wait=not no_wait, timeout=limit)
        except KeyboardInterrupt:
            sys.stderr.write(f"\nInterrupted. What was submitted goes on at the service; to go on here:\n{_again()}\n")
            raise typer.Exit(130) from None
    _summary(outcomes, broken)
    raise typer.Exit(_code(outcomes, bool(broken), no_wait=no_wait, detailed=detailed_exitcode))


def _confirm(plan: Plan, yes: bool) -> None:
    if not plan.changes or yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BatchspecError(
            "there is something to do and nobody to ask", hint="run `batchspec apply --yes` to do what the plan says"
        )
    typer.confirm("\nDo this?", abort=True)


def _summary(outcomes: Sequence[Outcome], broken: dict[str, str]) -> None:
    if not any(outcome.submitted or outcome.end != "succeeded" for outcome in outcomes) and not broken:
        return
    typer.echo()
    for outcome in outcomes:
        failed = outcome.plan.tally.failed if outcome.plan else 0
        more = f", {failed:,} failed" if failed else ""
        typer.echo(f"{outcome.address}: {outcome.end} (requests submitted: {outcome.submitted:,}{more})")
        if outcome.message:
            typer.echo(f"    {outcome.message}")
        if outcome.plan and outcome.end == "failed":
            typer.echo(f"    more requests stand failed than `tolerate` allows; see `error` in {outcome.plan.output}")
    for address in broken:
        typer.echo(f"{address}: skipped, see its error above")
    if any(outcome.end == "running" for outcome in outcomes):
        typer.echo(f"Batches go on at the service; to fetch and write what they answer: {_again()}")


def _code(outcomes: Sequence[Outcome], broken: bool, *, no_wait: bool, detailed: bool) -> int:
    """Over several jobs the worst counts: 1, 3, 4, 0."""
    ends = {outcome.end for outcome in outcomes}
    if broken or "error" in ends:
        return 1
    if "failed" in ends:
        return 3
    return 4 if "running" in ends and (detailed or not no_wait) else 0


def _again() -> str:
    import shlex  # noqa: PLC0415

    words = [word for word in sys.argv[1:] if word != "--no-wait"]
    return shlex.join(["batchspec", *words])


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    if match is None:
        raise BatchspecError(f"--timeout {text}: write a time such as 90s, 30m or 24h")
    return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
