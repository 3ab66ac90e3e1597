"""`batchspec validate`: check the specs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.loading import read_project, warn
from runner.cli.options import Paths, Provider, Strict, Var
from runner.cli.terminal.printing import give, say
from runner.errors import Problem, SpecError

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec, Project


def validate(
    paths: Paths = None,
    var: Var = None,
    provider: Provider = None,
    strict: Strict = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object: valid, problems, warnings, jobs.")
    ] = False,
) -> None:
    """Check specs and their templates, and report every problem at once. Reads no input rows and contacts no service.

    A partition variable without a value is checked with a placeholder.
    """
    try:
        project = read_project(paths, var, provider, placeholders=True, extra_checks=_templates)
        if strict:
            warn(project.warnings, project.jobs, strict=True)
    except SpecError as error:
        if not as_json:
            raise
        give(_report(None, error.problems))
        raise typer.Exit(1) from None
    if as_json:
        give(_report(project, ()))
        return
    warn(project.warnings, project.jobs)
    for job in project.jobs:
        say(f"{job.file}: {job.address} is valid")


def _templates(root: Path, specs: Sequence[JobSpec]) -> Sequence[Problem]:
    if not specs:
        return ()
    from runner.planner.templates.check import template_problems  # noqa: PLC0415  Jinja is not needed if no job is valid

    problems = [*template_problems(root, specs)]
    if any(spec.job.evaluate is not None for spec in specs):
        from runner.evaluation.scoring import grader_problems  # noqa: PLC0415  only jobs with graders need it

        problems += grader_problems(root, specs)
    return problems


def _report(project: Project | None, problems: tuple[Problem, ...]) -> str:
    import json  # noqa: PLC0415

    report = {
        "valid": project is not None,
        "problems": [asdict(problem) for problem in problems],
        "warnings": [asdict(warning) for warning in project.warnings] if project else [],
        "jobs": [{"address": job.address, "file": job.file} for job in project.jobs] if project else [],
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
