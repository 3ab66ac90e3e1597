"""`batchspec verify`: check requests and outputs against the lockfile."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from runner.cli.loading import load_jobs
from runner.cli.options import Exclude, JobName, Json, Paths, Provider, Select, Strict, Var
from runner.cli.terminal.printing import say
from runner.errors import BatchspecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.operations.verify import Verified
    from runner.reconciler.plan.plan import Plan


def verify(
    paths: Paths = None,
    job: JobName = None,
    select: Select = None,
    exclude: Exclude = None,
    var: Var = None,
    provider: Provider = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Check that rendering gives the recorded requests and that outputs contain the recorded answers.

    Changes nothing. Contacts the service only with --strict, to check that it knows the batches. Exits with code 1 if
    anything differs.
    """
    from runner.api import format_error, open_project  # noqa: PLC0415
    from runner.cli.terminal.json_writer import lines_of  # noqa: PLC0415
    from runner.operations.verify import verify as check  # noqa: PLC0415

    bad = 0
    with ExitStack() as stack:
        lines = stack.enter_context(lines_of("verify", wanted=as_json))
        project, jobs = load_jobs(paths, var, job, provider, recorded=True, select=select, exclude=exclude)
        opened = stack.enter_context(open_project(project, reads=not strict))
        prepared, errors = opened.prepare(jobs)
        planned = opened.plan(jobs, needs_key=True).plan if strict else None
        errors |= {} if planned is None else _unasked(planned, errors)
        for one in prepared:
            found = check(opened.context, one)
            if planned is not None:
                found = with_unknown(found, planned)
            bad += bool(found.wrong)
            if lines is not None:
                lines.verified(found)
            else:
                say(_text(found))
        if lines is not None:
            lines.errors(errors)
        else:
            for address, error in errors.items():
                say(f"{address}: rendering failed\n  ! {format_error(error)}")
    if bad or errors:
        raise typer.Exit(1)


def _unasked(planned: Plan, errors: Mapping[str, BatchspecError]) -> dict[str, BatchspecError]:
    new = planned.errors.keys() - errors.keys()
    return {address: BatchspecError(planned.errors[address], code="BS413") for address in sorted(new)}


def with_unknown(found: Verified, planned: Plan) -> Verified:
    """Return a verification plus its batches that the service does not know."""
    unknown = (batch for job in planned.jobs if job.address == found.address for batch in job.unknown_batches)
    wrong = (f"answers of a batch that the service does not know: {batch}" for batch in unknown)
    return replace(found, wrong=(*found.wrong, *wrong))


def _text(found: Verified) -> str:
    head = f"{found.address}: {'not verified' if found.wrong else 'verified'}"
    return "\n".join([head, *(f"    {text}" for text in found.right), *(f"  ! {text}" for text in found.wrong)])
