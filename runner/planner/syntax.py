"""What is wrong with the templates of jobs before any row is read: all of it at once, each thing at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from runner.errors import Problem
from runner.planner.templates import Templates, is_constant
from runner.spec.suggest import did_you_mean

if TYPE_CHECKING:
    from runner.spec.load import JobSpec
    from runner.spec.models import Turn

_NO_FILTER = re.compile(r"No filter named '([^']*)'")


def template_problems(root: Path, specs: Sequence[JobSpec]) -> list[Problem]:
    """All that keeps the templates of jobs, and the templates these name, from being compiled; each problem once."""
    # Whether a template compiles does not depend on the vars, so one environment serves all jobs, and reads each once.
    templates = Templates(root, {})
    found: dict[Problem, None] = {}
    for spec in specs:
        for turn in spec.job.prompt.turns:
            found |= dict.fromkeys(_problems_of(templates, spec, turn))
    return list(found)


def _problems_of(templates: Templates, spec: JobSpec, turn: Turn) -> Iterator[Problem]:
    if not isinstance(turn.text, str):
        place = spec.problem("", "prompt", *turn.path, "template")
        for error in templates.errors_of_file(turn.text.template):
            yield _problem(templates, error, place)
    elif not is_constant(turn.text):
        place = spec.problem("", "prompt", *turn.path)
        for error in templates.errors_of_text(turn.text, "prompt"):
            yield _problem(templates, error, place, several="\n" in turn.text.strip())


def _problem(templates: Templates, error: jinja2.TemplateError, place: Problem, *, several: bool = False) -> Problem:
    """What Jinja says, at the template's line; of a text in the spec, of `several` lines or one, there."""
    message = str(error.message).removesuffix(".")
    unknown = _NO_FILTER.match(message)
    hint = did_you_mean(unknown[1], templates.filters) if unknown else ""
    if isinstance(error, jinja2.TemplateSyntaxError):
        file = templates.loaded.get(error.name or "")
        if file is not None:
            lines = file.text.splitlines()
            excerpt = lines[error.lineno - 1] if 0 < error.lineno <= len(lines) else ""
            return Problem(file.path, error.lineno, 0, f"template: {message}", hint, excerpt, "BS127")
        message = f"template, line {error.lineno}: {message}" if several else f"template: {message}"
    return Problem(place.file, place.line, place.column, message, hint, place.excerpt, "BS127")
