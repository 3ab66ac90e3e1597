"""`batchspec eval`: grade outputs, compare them with a baseline, and check gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from runner.cli.loading import load_jobs
from runner.cli.options import Exclude, JobName, NoColor, Paths, Provider, Select, Var
from runner.cli.terminal.printing import give, out_console, say_error

if TYPE_CHECKING:
    from runner.errors import BatchspecError
    from runner.evaluation.evaluate import Evaluation

Format = Literal["text", "markdown", "json", "junit"]
GATE_CODE = 5
"""The exit code if a gate does not pass."""


def eval_(
    paths: Paths = None,
    job: JobName = None,
    select: Select = None,
    exclude: Exclude = None,
    var: Var = None,
    provider: Provider = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="REV", help="Git revision to compare with, in place of the spec's."),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="Text, a comment's Markdown, JSON, or JUnit XML.")] = "text",
    check: Annotated[bool, typer.Option("--check/--no-check", help="Exit with code 5 if a gate does not pass.")] = True,
    no_color: NoColor = False,
) -> None:
    """Grade outputs with the graders of their specs, and check the gates. Calls no model and needs no key.

    Scores depend on committed files only: spec, input and output. Exits with code 5 if a gate does not pass.
    """
    from runner.api import open_project  # noqa: PLC0415
    from runner.errors import BatchspecError  # noqa: PLC0415

    project, chosen = load_jobs(paths, var, job, provider, recorded=True, select=select, exclude=exclude)
    graded = [spec for spec in chosen if spec.job.evaluate is not None]
    if not graded:
        raise BatchspecError(
            "no selected job has graders", hint="add `evaluate:` to a spec; see docs/how-to/evaluate.md", code="BS801"
        )
    with open_project(project, reads=True) as opened:
        found, errors = opened.evaluate(graded, against)
    show_evaluations(found, errors, form, no_color=no_color)
    if errors:
        raise typer.Exit(1)
    if check and not all(one.passes for one in found):
        raise typer.Exit(GATE_CODE)


def show_evaluations(
    found: tuple[Evaluation, ...], errors: dict[str, BatchspecError], form: Format = "text", *, no_color: bool = False
) -> None:
    """Print evaluations. Errors go to stderr unless the format has a place for them."""
    texts = {address: error.message for address, error in errors.items()}
    if form == "json":
        from runner.views.eval_json import evaluation_document  # noqa: PLC0415

        give(evaluation_document(found, texts))
        return
    if form in {"markdown", "junit"}:
        from runner.views.eval_markdown import evaluation_junit, evaluation_markdown  # noqa: PLC0415

        give(evaluation_junit(found, texts) if form == "junit" else evaluation_markdown(found, texts))
        return
    if found:
        from runner.views.eval_text import evaluation_view  # noqa: PLC0415

        console = out_console(no_color)
        for one in found:
            console.print(evaluation_view(one))
    for address, error in errors.items():
        say_error(f"{address}: not evaluated\n  Error: {error.message} [{error.code}]")
        if error.hint:
            say_error(f"  {error.hint}")
