"""`batchspec validate`: whether the specs are right."""

from __future__ import annotations

import typer

from runner.cli.options import Paths, Provider, Var, load_jobs


def validate(paths: Paths = None, var: Var = None, provider: Provider = None) -> None:
    """Check specs, and say everything that is wrong with them at once. Reads no input rows, asks no service."""
    _, jobs = load_jobs(paths, var, None, provider)
    for job in jobs:
        typer.echo(f"{job.file}: {job.address} is valid")
