"""`batchspec report`: results as a page or as numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from runner.cli.loading import load_jobs
from runner.cli.options import Exclude, JobName, Paths, Provider, Select, Var
from runner.cli.out_file import check_overwrite
from runner.cli.terminal.printing import give_bytes, say

_FILES = {"html": "batchspec-report.html", "json": "batchspec-report.json", "csv": "batchspec-report.csv"}


def report(
    paths: Paths = None,
    job: JobName = None,
    select: Select = None,
    exclude: Exclude = None,
    var: Var = None,
    provider: Provider = None,
    form: Annotated[
        Literal["html", "json", "csv"], typer.Option("--format", help="A page, all facts, or one line per run.")
    ] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Output file; overwrites only a report. `-` is stdout.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        bool, typer.Option("--prompts/--no-prompts", help="Show sample answers with their prompts.")
    ] = True,
) -> None:
    """Write a report of runs and answers: one self-contained HTML file, or numbers.

    Reads lockfiles, outputs and input. Contacts no service and changes nothing.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from runner.api import open_project  # noqa: PLC0415
    from runner.report.collect import collect  # noqa: PLC0415
    from runner.state.atomic import write_if_changed  # noqa: PLC0415

    target = out or Path(_FILES[form])
    if str(target) != "-":
        check_overwrite(target, "a report")
    project, jobs = load_jobs(paths, var, job, provider, recorded=True, select=select, exclude=exclude)
    with open_project(project, reads=True) as opened:
        facts = collect(opened.context, jobs, prompts=prompts and form != "csv")
    if form == "html":
        from runner.views.report_page import page  # noqa: PLC0415

        data = page(facts, project.settings.project, datetime.now(UTC)).encode()
    else:
        from runner.views.report_export import as_csv, as_json  # noqa: PLC0415

        data = as_json(facts) if form == "json" else as_csv(facts).encode()
    if str(target) == "-":
        give_bytes(data)
        return
    write_if_changed(target, data)
    say(f"wrote {target}")
