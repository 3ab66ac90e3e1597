"""Check jobs' templates before any row is read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from runner.errors import Problem
from runner.jobspec.suggest import did_you_mean
from runner.planner.templates.environment import Templates, is_constant

if TYPE_CHECKING:
    from runner.jobspec.loader import JobSpec
    from runner.jobspec.models import Turn

_NO_FILTER = re.compile(r"No filter named '([^']*)'")


def template_problems(root: Path, specs: Sequence[JobSpec]) -> list[Problem]:
    """Return what prevents templates from compiling, each problem once."""
    # Compiling does not depend on vars, so check each template once for all jobs.
    templates = Templates(root, {})
    errors: dict[Turn, tuple[jinja2.TemplateError, ...]] = {}
    found: dict[Problem, None] = {}
    for spec in specs:
        for turn in spec.job.prompt.turns:
            if turn not in errors:
                errors[turn] = tuple(_errors_of(templates, turn))
            place = spec.problem("", "prompt", *turn.path, *(() if isinstance(turn.text, str) else ("template",)))
            multiline = isinstance(turn.text, str) and "\n" in turn.text.strip()
            found |= dict.fromkeys(
                problem_of_template(templates, error, place, multiline=multiline) for error in errors[turn]
            )
    return list(found)


def _errors_of(templates: Templates, turn: Turn) -> Iterable[jinja2.TemplateError]:
    if not isinstance(turn.text, str):
        return templates.errors_of_file(turn.text.template)
    return () if is_constant(turn.text) else templates.errors_of_text(turn.text, "prompt")


def problem_of_template(
    templates: Templates, error: jinja2.TemplateError, place: Problem, *, multiline: bool = False
) -> Problem:
    """Return Jinja's error at the template's line; for inline text, at its place in the spec."""
    message = str(error.message).removesuffix(".")
    unknown = _NO_FILTER.match(message)
    hint = did_you_mean(unknown[1], templates.filters) if unknown else ""
    if isinstance(error, jinja2.TemplateSyntaxError):
        file = templates.loaded.get(error.name or "")
        if file is not None:
            lines = file.text.splitlines()
            excerpt = lines[error.lineno - 1] if 0 < error.lineno <= len(lines) else ""
            return Problem(file.path, error.lineno, 0, f"template: {message}", hint, excerpt, "BS127")
        message = f"template, line {error.lineno}: {message}" if multiline else f"template: {message}"
    return Problem(place.file, place.line, place.column, message, hint, place.excerpt, "BS127")
