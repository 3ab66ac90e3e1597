"""`batchspec apply`: show the plan, ask, and carry it out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.base.duration import parse_duration
from runner.cli import signals
from runner.cli.commands.eval_ import GATE_CODE, show_evaluations
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
    Yes,
)
from runner.cli.saved_plan import planned_jobs, signed_plan
from runner.cli.terminal.printing import confirm, say
from runner.errors import BatchspecError, read_more

if TYPE_CHECKING:
    from runner.api import Session
    from runner.evaluation.evaluate import Evaluation
    from runner.executor.outcome import Outcome
    from runner.jobspec.output_options import Output
    from runner.operations.planned import Planned
    from runner.reconciler.plan.plan import JobPlan, Plan

_CONTINUES = {
    False: "is still running at the service",
    True: "continues whenever the embedded service runs; the next apply starts it",
}
"""What happens to a batch after an interrupted apply, by whether its service is embedded."""


def apply(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Spec files or folders (default: specs/), or one saved plan.", show_default=False),
    ] = None,
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
    yes: Yes = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Submit and exit. Run apply again later to fetch the results.")
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="TIME", help="Stop waiting after 90s, 30m or 24h. Batches keep running."),
    ] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="With --no-wait, exit with code 4 while batches run.")
    ] = False,
    ask_unknown: AskUnknown = None,
    retry_failed: RetryFailed = None,
    prune: Prune = False,
    no_new: NoNew = False,
    reopen: Reopen = False,
    override: Annotated[
        str | None,
        typer.Option("--budget-override", metavar="REASON", help="Exceed a budget. The lockfile records the reason."),
    ] = None,
    exact: Exact = False,
    strict: Strict = False,
    as_json: Json = False,
    jobs: Jobs = None,
    no_color: NoColor = False,
    verbose: Verbose = 0,
    log_format: LogFormat = "console",
) -> None:
    """Submit missing requests, wait for the results and write the outputs. Shows the plan and asks first.

    Given a saved plan (`batchspec plan --out plan.json`), apply does nothing beyond that plan and does not ask.
    """
    from runner.api import open_project  # noqa: PLC0415
    from runner.cli.terminal.json_writer import lines_of  # noqa: PLC0415
    from runner.cli.terminal.plan_printer import show_plan  # noqa: PLC0415
    from runner.cli.terminal.terminal import Terminal  # noqa: PLC0415
    from runner.executor.apply import Interrupted  # noqa: PLC0415
    from runner.operations.notifications import notify_end, notify_over_budget  # noqa: PLC0415
    from runner.operations.planned import refuse_unknown  # noqa: PLC0415
    from runner.operations.selection import Scope  # noqa: PLC0415
    from runner.reconciler.observe.observe import ApplyOptions  # noqa: PLC0415

    with lines_of("apply", wanted=as_json) as lines:
        time_limit = _duration(timeout)
        _check_options(override, ask_unknown, no_new=no_new)
        plan_file = _plan_file(paths)
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
        check_reopen(job, select, var, reopen=reopen and plan_file is None, no_new=no_new)
        project = read_project(None if plan_file else paths, var, provider, allow_partial=True, tolerant=True)
        saved = None if plan_file is None else signed_plan(plan_file, project)
        project = project if saved is None else replace(project, broken={})
        found = choose(project, choice_of(choice, saved), Scope.RUN, strict=strict)
        project, chosen = found.project, found.jobs
        if plan_file is not None and saved is not None:
            chosen = planned_jobs(saved, plan_file, project, chosen)
        validate_job_options(project, chosen, ask_unknown, retry_failed, prune=prune)
        options = ApplyOptions(frozenset(ask_unknown or ()), frozenset(retry_failed or ()), prune, no_new, reopen)
        with (
            Terminal(verbose=verbose, log_format=log_format, no_color=no_color) as terminal,
            open_project(project, watcher=lines or terminal, jobs=jobs) as opened,
        ):
            planned = opened.plan(chosen, options, exact=exact, needs_key=True, strict=strict, new=found.new)
            terminal.clear()
            if lines is not None:
                lines.plan(planned.plan)
            else:
                show_plan(planned.plan, opened.context.places.root, no_color=no_color, override=bool(override))
            if strict:
                refuse_unknown(planned.plan)
            if planned.plan.over_budget and not override:
                notify_over_budget(opened.context, len(planned.plan.jobs))
                _refuse_over_budget(as_json=as_json)
            else:
                _confirm(planned.plan, yes=yes or saved is not None, on_stderr=as_json)
            broken = planned.plan.errors
            terminal.expect({job.address: job.awaits for job in planned.plan.jobs if job.address not in broken})
            try:
                outcomes = opened.apply(
                    planned,
                    options,
                    saved=saved,
                    wait=not no_wait,
                    timeout=time_limit,
                    override=(override or "").strip()[:500],
                )
            except Interrupted as interrupted:
                terminal.clear()
                local = {one.address for one in chosen if one.profile.kind == "local"}
                signals.report(
                    [
                        f"{one.address}: batch {batch} {_CONTINUES[one.address in local]}"
                        for one in interrupted.outcomes
                        for batch in one.running
                    ]
                )
                if lines is not None:
                    lines.outcomes(interrupted.outcomes, signals.CODE)
                raise typer.Exit(signals.CODE) from None
            graded = _graded(opened, planned, outcomes)
            changed = {one.address for one in planned.plan.jobs if one.changes}
            notify_end(opened.context, outcomes, changed, planned.plan.codes)
        strictly = strict and bool(planned.plan.waiting)
        code = _code(outcomes, bool(broken) or bool(graded[1]) or strictly, no_wait=no_wait, detailed=detailed_exitcode)
        if code in {0, 4} and not all(one.passes for one in graded[0]):
            code = GATE_CODE
        if lines is not None:
            lines.outcomes(outcomes, code)
        else:
            noted = {one.address: one.notes for one in planned.plan.jobs}
            _summary(outcomes, broken, {one.address: one.job.output for one in chosen}, changed, noted)
            show_evaluations(*graded, no_color=no_color)
    raise typer.Exit(code)


def _graded(
    opened: Session, planned: Planned, outcomes: Sequence[Outcome]
) -> tuple[tuple[Evaluation, ...], dict[str, BatchspecError]]:
    ended = {outcome.address for outcome in outcomes if outcome.end in {"succeeded", "failed"}}
    return opened.evaluate_rendered([one for one in planned.prepared if one.desired.spec.address in ended])


def _refuse_over_budget(*, as_json: bool) -> None:
    """Raise BatchspecError without the limits, which the plan has shown. With `--json`, `Session.apply` raises it."""
    if not as_json:
        raise BatchspecError(
            "the plan is over budget",
            hint="nothing was submitted. Change the job or its budget, or give a reason with "
            "`--budget-override REASON`",
            code="BS601",
        )


def _check_options(override: str | None, ask_unknown: list[str] | None, *, no_new: bool) -> None:
    """Check options against each other. Raises BatchspecError."""
    if override is not None and not override.strip():
        raise BatchspecError("--budget-override needs a reason", hint="give one in a few words", code="BS802")
    if no_new and ask_unknown:
        raise BatchspecError(
            "--no-new and --ask-unknown contradict each other: --ask-unknown submits requests",
            hint="use only one of them",
            code="BS802",
        )


def _plan_file(paths: list[Path] | None) -> Path | None:
    """Return the saved plan, if the only path is one: a file that can't be a spec."""
    if not paths or len(paths) > 1 or paths[0].suffix in {".yaml", ".yml"}:
        return None
    return paths[0] if paths[0].suffix == ".json" or paths[0].is_file() else None


def _confirm(plan: Plan, *, yes: bool, on_stderr: bool) -> None:
    """Ask for confirmation if the plan has changes; `on_stderr` if stdout is for programs."""
    if not plan.changes or yes:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BatchspecError(
            "apply needs confirmation, but this is not a terminal",
            hint=f"to apply these changes, run `{signals.command(sys.argv[1:])} --yes`",
            code="BS608",
        )
    confirm("\nApply these changes?", on_stderr=on_stderr)


def _summary(
    outcomes: Sequence[Outcome],
    broken: dict[str, str],
    outputs: Mapping[str, Output],
    changed: set[str],
    noted: Mapping[str, Sequence[str]],
) -> None:
    if not changed and not any(outcome.submitted or outcome.end != "succeeded" for outcome in outcomes) and not broken:
        return
    say()
    for outcome in outcomes:
        if outcome.plan is None and outcome.end == "succeeded":
            continue  # a closed partition
        for line in _outcome_lines(outcome, outputs):
            say(line)
        for note in outcome.plan.notes if outcome.plan else ():
            if note not in noted.get(outcome.address, ()):  # the plan above has the others
                say(f"    note: {note}")
    _total_cost([outcome for outcome in outcomes if outcome.cost is not None])
    for address in broken:
        say(f"{address}: skipped, see its error above")
    more = read_more(code for outcome in outcomes for code in outcome.codes)
    if more:
        say(more)
    if any(outcome.end == "running" for outcome in outcomes):
        say(f"Batches are still running. To fetch and write their results, run: {signals.command(sys.argv[1:])}")


def _outcome_lines(outcome: Outcome, outputs: Mapping[str, Output]) -> Iterator[str]:
    from runner.money.prices import cost_with_estimate, usd_text  # noqa: PLC0415

    tally = outcome.plan.tally if outcome.plan else None
    counts = ((tally.failed, "failed"), (tally.unknown, "unknown")) if tally else ()
    more = "".join(f", {count:,} {word}" for count, word in counts if count)
    yield f"{outcome.address}: {outcome.end} (requests submitted: {outcome.submitted:,}{more})"
    if outcome.cost is not None:
        yield f"    cost {cost_with_estimate(outcome.cost, outcome.expected, at_most=outcome.at_most)}"
    if outcome.earlier is not None:
        yield f"    cost of batches submitted earlier and fetched now: {usd_text(outcome.earlier)}"
    if outcome.message:
        yield f"    {outcome.message}"
    yield from (f"    {text}" for text in outcome.failures)
    if outcome.plan and outcome.end == "failed":
        yield from (f"    {line}" for line in _why_failed(outcome.plan, outputs[outcome.address]))


def _total_cost(paid: Sequence[Outcome]) -> None:
    from runner.money.estimate import total  # noqa: PLC0415
    from runner.money.prices import cost_with_estimate  # noqa: PLC0415

    if len(paid) > 1:
        sums = total(one.cost for one in paid) or Decimal(0), total(one.expected for one in paid)
        at_most = any(one.at_most for one in paid)
        say(f"{len(paid):,} jobs cost {cost_with_estimate(*sums, at_most=at_most)}")


def _why_failed(plan: JobPlan, output: Output) -> Iterator[str]:
    tally = plan.tally
    if tally.unknown:
        yield (
            f"{tally.unknown:,} unknown: an answer may have been paid for and can't be read. "
            f"To resubmit them: `--ask-unknown {plan.address}`"
        )
    if tally.failed:
        where = ""
        if output.errors is not None:
            where = f"; see {output.errors}"
        elif output.include is None or "error" in output.include:
            where = f"; see `{'error' if output.kind == 'jsonl' else 'error_code'}` in {plan.output}"
        yield f"{tally.failed:,} failed, {plan.tolerated:,} allowed by `tolerate`{where}"
        yield f"To retry failed requests: `batchspec apply --retry-failed {shlex.quote(plan.address)}`"


def _code(outcomes: Sequence[Outcome], broken: bool, *, no_wait: bool, detailed: bool) -> int:
    """Return the exit code; the worst job decides: 1, then 3, 4, 0."""
    ends = {outcome.end for outcome in outcomes}
    if broken or "error" in ends:
        return 1
    if "failed" in ends:
        return 3
    return 4 if "running" in ends and (detailed or not no_wait) else 0


def _duration(text: str | None) -> timedelta | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError:
        raise BatchspecError(f"--timeout {text}: write a time such as 90s, 30m or 24h", code="BS802") from None
