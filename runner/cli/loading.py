"""Loads the project around the current folder, and selects a command's jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runner.cli.terminal.printing import say_error
from runner.errors import BatchspecError, Problem, SpecError
from runner.jobspec.suggest import did_you_mean

if TYPE_CHECKING:
    from runner.jobspec.job_spec import JobSpec, Project
    from runner.operations.choice import Choice
    from runner.operations.selection import Scope, Selected
    from runner.reconciler.plan.planfile import PlanFile


def load_jobs(
    paths: list[Path] | None,
    variables: list[str] | None,
    names: list[str] | None,
    provider: str | None,
    *,
    recorded: bool = False,
    select: list[str] | None = None,
    exclude: list[str] | None = None,
) -> tuple[Project, tuple[JobSpec, ...]]:
    """Return the project and the selected jobs; print warnings to stderr. Raises BatchspecError.

    With `recorded`, a job without a given partition is each recorded one.
    """
    from runner.operations.choice import Choice  # noqa: PLC0415
    from runner.operations.selection import Scope  # noqa: PLC0415

    choice = Choice(select=(*(names or ()), *(select or ())), exclude=tuple(exclude or ()))
    project = read_project(paths, variables, provider, allow_partial=True)
    found = choose(project, choice, Scope.RECORDED if recorded else Scope.GIVEN)
    return found.project, found.jobs


def given_choice(
    names: list[str] | None,
    select: list[str] | None,
    exclude: list[str] | None,
    *,
    due: bool,
    limit: int | None,
    since: str | None,
    until: str | None,
    now: str | None,
    named: Sequence[str] = (),
    closed: bool = False,
) -> Choice:
    """Return what the options of plan and apply choose. Raises BatchspecError for an unreadable time."""
    from runner.operations.choice import LIMIT, Choice  # noqa: PLC0415

    return Choice(
        select=(*(names or ()), *(select or ())),
        exclude=tuple(exclude or ()),
        due=due,
        limit=LIMIT if limit is None else limit,
        since=since or "",
        until=until or "",
        now=None if now is None else _instant(now),
        named=tuple(named),
        closed=closed,
    )


def choice_of(choice: Choice, saved: PlanFile | None) -> Choice:
    """Return a command's choice, by default a saved plan's jobs."""
    if saved is None or choice.select or choice.due:
        return choice
    return replace(choice, select=tuple(job.address for job in saved.jobs), may_miss=True)


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo is not None else _no_instant(text)
    except (ValueError, OverflowError):
        return _no_instant(text)


def _no_instant(text: str) -> NoReturn:
    hint = "write a time with its offset, such as 2026-11-02T06:00:00Z"
    raise BatchspecError(f"--now {text[:60]} is no time with an offset", hint=hint, code="BS802") from None


def choose(project: Project, choice: Choice, scope: Scope, *, strict: bool = False) -> Selected:
    """Return a command's jobs; warnings and notes go to stderr. Raises BatchspecError.

    With `strict`, warnings are a SpecError.
    """
    import os  # noqa: PLC0415

    from runner.operations.selection import select  # noqa: PLC0415

    try:
        found = select(project, choice, scope, os.environ, datetime.now(UTC))
    except BatchspecError as error:
        if error.code == "BS801" and project.broken:  # a spec that can't be read may define the job
            raise next(iter(project.broken.values())) from error
        raise
    warn(found.project.warnings, found.jobs, strict=strict)
    for note in found.notes:
        say_error(note)
    return found


def only_job(address: str, provider: str | None) -> tuple[Project, JobSpec]:
    """Return the project and one job. Raises BatchspecError, also if several match."""
    project, jobs = load_jobs(None, None, [address], provider, recorded=True)
    if not jobs:
        raise BatchspecError(
            f"no lockfile records a partition of {address}", hint="name the partition: NAME[VAR=VALUE]", code="BS801"
        )
    if len(jobs) > 1:
        known = ", ".join(job.address for job in jobs[:20])
        raise BatchspecError(f"{address} matches {len(jobs)} jobs", hint=f"choose one of: {known}", code="BS801")
    return project, jobs[0]


def read_project(
    paths: list[Path] | None,
    variables: list[str] | None,
    provider: str | None,
    *,
    placeholders: bool = False,
    allow_partial: bool = False,
    tolerant: bool = False,
    extra_checks: Callable[[Path, Sequence[JobSpec]], Sequence[Problem]] | None = None,
) -> Project:
    """Return the project around the current folder or the first of `paths`. Raises BatchspecError."""
    import os  # noqa: PLC0415

    from runner.jobspec.discovery import SETTINGS_FILES  # noqa: PLC0415
    from runner.jobspec.loader import find_root, load_project  # noqa: PLC0415

    root = find_root(Path.cwd())
    if paths:
        first = paths[0].resolve()
        near = find_root(first if first.is_dir() else first.parent)
        # The path belongs to a project below this folder, as in a repository of several.
        if near.is_relative_to(root) and any((near / name).is_file() for name in SETTINGS_FILES):
            root = near
    return load_project(
        root,
        [path for path in paths or () if path.resolve() != root],  # the project's folder is all of its specs
        variables=_pairs(variables or []),
        provider=provider,
        environ=os.environ,
        placeholders=placeholders,
        allow_partial=allow_partial,
        tolerant=tolerant,
        extra_checks=extra_checks,
    )


def warn(warnings: Sequence[Problem], jobs: Sequence[JobSpec], *, strict: bool = False) -> None:
    """Print warnings about these jobs' files to stderr. With `strict`, raise them as a SpecError."""
    files = {job.file for job in jobs}
    if strict and (problems := [warning for warning in warnings if warning.file in files]):
        raise SpecError(problems)
    for warning in warnings:
        if warning.file in files:
            from runner.cli.terminal.terminal import problem_text  # noqa: PLC0415  most specs give no warning

            say_error(f"warning: {problem_text(warning)}")


def load_project_at(provider: str | None) -> Project:
    """Return the current folder's project, without unbound partitions. Raises BatchspecError."""
    return read_project(None, None, provider, allow_partial=True)


def chosen(project: Project, names: Sequence[str] | None) -> tuple[JobSpec, ...]:
    """Return the jobs with these addresses or names, or all. Raises BatchspecError if none match."""
    known = {job.address for job in project.jobs} | {job.job.name for job in project.jobs}
    for name in names or ():
        if name not in known:
            shown = [job.address for job in project.jobs]
            more = f" and {len(shown) - 20} more" if len(shown) > 20 else ""
            raise BatchspecError(
                f"there is no job {name}",
                hint=did_you_mean(name, sorted(known)) or f"the jobs are: {', '.join(shown[:20]) or 'none'}{more}",
                code="BS801",
            )
    return tuple(job for job in project.jobs if not names or job.address in names or job.job.name in names)


def validate_job_options(
    project: Project,
    jobs: Sequence[JobSpec],
    ask_unknown: list[str] | None,
    retry_failed: list[str] | None,
    *,
    prune: bool,
) -> None:
    """Refuse options for unknown or unselected jobs. Raises BatchspecError."""
    if prune and not project.complete:
        raise BatchspecError(
            "--prune needs all specs, but this command read only some of them",
            hint="leave out the paths; use `--job` to select jobs",
            code="BS802",
        )
    known = {job.address for job in jobs}
    for option, names in (("--ask-unknown", ask_unknown), ("--retry-failed", retry_failed)):
        for name in names or ():
            if known.isdisjoint(job.address for job in chosen(project, [name])):
                raise BatchspecError(
                    f"{option} {name}: the selected jobs are {', '.join(job.address for job in jobs[:20]) or 'none'}",
                    hint=f"select {name} too, or leave the option out",
                    code="BS801",
                )


def check_reopen(
    names: list[str] | None, select: list[str] | None, variables: list[str] | None, *, reopen: bool, no_new: bool
) -> None:
    """Refuse `--reopen` without a selection: it could buy all past partitions again. Raises BatchspecError."""
    if reopen and not (names or select or variables):
        raise BatchspecError(
            "--reopen needs a selection: it asks closed partitions again",
            hint="select partitions with `--select` or `--var`",
            code="BS802",
        )
    if reopen and no_new:
        raise BatchspecError(
            "--no-new and --reopen contradict each other: --reopen submits requests",
            hint="use only one of them",
            code="BS802",
        )


def _pairs(variables: list[str]) -> dict[str, str]:
    pairs = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BatchspecError(f"--var {text}: write it as NAME=VALUE", code="BS802")
        pairs[name] = value
    return pairs
