"""`batchspec render`: requests as they would go out."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.cli.options import JobName, Paths, Provider, Var, load_jobs


def render(
    paths: Paths = None,
    job: JobName = None,
    var: Var = None,
    provider: Provider = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Requests of each job.")] = 3,
    pretty: Annotated[bool, typer.Option("--pretty", help="Indented, with the row's id above, for reading.")] = False,
) -> None:
    """Print the first requests of each job, byte for byte as they would be uploaded. Submits nothing."""
    import json  # noqa: PLC0415

    from runner.planner.render import first_requests  # noqa: PLC0415

    project, jobs = load_jobs(paths, var, job, provider)
    for spec in jobs:
        for identity, line in first_requests(spec, project.root, limit):
            if pretty:
                typer.echo(f"# {spec.address}, row {identity.decode()}")
                typer.echo(json.dumps(json.loads(line), indent=2, ensure_ascii=False))
            else:
                typer.echo(line.decode(), nl=False)
