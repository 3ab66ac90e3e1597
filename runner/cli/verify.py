"""`batchspec verify`: that rendering again and the outputs are what the lockfile says."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from runner.cli.options import JobName, Json, Paths, Provider, Var
from runner.cli.printing import say
from runner.cli.project import load_jobs

if TYPE_CHECKING:
    from runner.executor.verify import Verified


def verify(
    paths: Paths = None, job: JobName = None, var: Var = None, provider: Provider = None, as_json: Json = False
) -> None:
    """Prove that specs, inputs and templates give the recorded requests, and outputs hold the recorded answers.

    Asks no service and changes nothing. Exit code 1 where anything differs.
    """
    from runner.api import open_project, told  # noqa: PLC0415
    from runner.cli.machine import lines_of  # noqa: PLC0415
    from runner.executor.verify import verify as check  # noqa: PLC0415

    bad = 0
    with ExitStack() as stack:
        lines = stack.enter_context(lines_of("verify", wanted=as_json))
        project, jobs = load_jobs(paths, var, job, provider, recorded=True)
        opened = stack.enter_context(open_project(project, reads=True))
        prepared, errors = opened.prepare(jobs)
        for one in prepared:
            found = check(opened.context, one)
            bad += bool(found.wrong)
            if lines is not None:
                lines.verified(found)
            else:
                say(_text(found))
        if lines is not None:
            lines.errors(errors)
        else:
            for address, error in errors.items():
                say(f"{address}: can't be rendered\n  ! {told(error)}")
    if bad or errors:
        raise typer.Exit(1)


def _text(found: Verified) -> str:
    head = f"{found.address}: {'not verified' if found.wrong else 'verified'}"
    return "\n".join([head, *(f"    {text}" for text in found.right), *(f"  ! {text}" for text in found.wrong)])
