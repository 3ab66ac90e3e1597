"""`batchspec verify`: that rendering again and the outputs are what the lockfile says."""

from __future__ import annotations

import typer

from runner.cli.options import JobName, Paths, Provider, Var, load_jobs


def verify(paths: Paths = None, job: JobName = None, var: Var = None, provider: Provider = None) -> None:
    """Prove that specs, inputs and templates give the recorded requests, and outputs hold the recorded answers.

    Asks no service and changes nothing. Exit code 1 where anything differs.
    """
    from runner.api import open_project, told  # noqa: PLC0415
    from runner.executor.verify import verify as check  # noqa: PLC0415

    project, jobs = load_jobs(paths, var, job, provider)
    bad = 0
    with open_project(project) as opened:
        prepared, errors = opened.prepare(jobs)
        for one in prepared:
            found = check(opened.context, one)
            bad += bool(found.wrong)
            typer.echo(f"{found.address}: {'differs' if found.wrong else 'verified'}")
            for text in found.right:
                typer.echo(f"    {text}")
            for text in found.wrong:
                typer.echo(f"  ! {text}")
    for address, error in errors.items():
        typer.echo(f"{address}: can't be rendered\n  ! {told(error)}")
    if bad or errors:
        raise typer.Exit(1)
