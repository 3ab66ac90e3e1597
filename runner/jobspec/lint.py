"""Rules for a valid job beyond single values."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from runner.base.repository_paths import readable, resolved
from runner.errors import Problem, TrustError
from runner.jobspec.models import Job, TemplateRef
from runner.jobspec.output_targets import forbidden, same_place
from runner.jobspec.parameters import known_parameters, unknown_parameters, unsupported_parameters, wrong_parameters
from runner.jobspec.refusals import certain_refusals
from runner.jobspec.suggest import did_you_mean
from runner.jobspec.trust import check_webhook, resolve_webhook_secret

Say = Callable[..., Problem]
"""Makes a problem from a message and the path of a value in the spec."""

_MAX_PATH = 4096
_PLACEHOLDER = re.compile(r"\{\{\s*(?:vars\.)?(\w{1,64})\s*\}\}")
_RECOVERABLE = frozenset({"error", "request", "batch"})
"""Fields needed to read an output's rows back as answers."""


def check_job(
    root: Path, store: str, job: Job, say: Say, environ: Mapping[str, str], *, own_server: bool
) -> list[Problem]:
    """Return all problems of a job whose shape is valid."""
    return [
        *_paths(root, store, job, say),
        *_placeholders(job.input.sql, say),
        *_parameters(job, say, own_server),
        *_webhook(job, say, environ),
        *_plain(job.vars, say, ("vars",)),
        *_plain(job.parameters, say, ("parameters",)),
        *_plain(list(job.input.rows or ()), say, ("input", "rows")),
    ]


def _placeholders(sql: str, say: Say) -> Iterator[Problem]:
    """Yield a problem for `{{` in SQL, which would be text: vars are parameters."""
    if "{{" in sql:
        found = _PLACEHOLDER.search(sql)
        shown, name = (found[0], found[1]) if found else ("{{", "NAME")
        message = f"SQL is no template: `{shown}` would be plain text; write ${name}, without quotes around it"
        yield say(message, "input", "sql", code="BS138")


def lint_warnings(
    root: Path, job: Job, say: Say, *, own_server: bool, schema: Mapping[str, Any] | None = None
) -> Iterator[Problem]:
    """Yield warnings, which stop nothing."""
    for turn in job.prompt.turns:
        if isinstance(turn.text, str) and _names_a_file(root, turn.text):
            yield say(
                f"the prompt is the text {turn.text}; to send that file's content write {{template: {turn.text}}}",
                "prompt",
                *turn.path,
                code="BS192",
            )
    if not job.input.id_columns:
        yield say(
            "rows have no id, so they are numbered. The numbers shift when rows are inserted or removed; the answers "
            "stay with their requests. Set `input.id` to a column with unique ids",
            "input",
            code="BS190",
        )
    if job.output.include is not None and (missing := _RECOVERABLE.difference(job.output.include)):
        yield say(
            "if results are lost, answers can be recovered only from an output with the fields error, request and "
            f"batch. Add {', '.join(sorted(missing))}",
            "output",
            "include",
            code="BS194",
        )
    for name, message in unknown_parameters(job, own_server=own_server):
        hint = did_you_mean(name, known_parameters(job.url))
        yield say(f"{message} ({hint})" if hint else message, "parameters", name, key=True, code="BS191")
    for name, message in unsupported_parameters(job, own_server=own_server):
        yield say(message, "parameters", name, key=True, code="BS193")
    for path, message in () if own_server else certain_refusals(job, schema):
        yield say(message, *path, key=True, code="BS195")


def _names_a_file(root: Path, text: str) -> bool:
    """Return whether a prompt is a project file's path, which is never meant as the prompt."""
    if len(text) > _MAX_PATH or not text or any(mark in text for mark in "{\n\0") or text.startswith(("/", "~")):
        return False
    try:
        return any((root / path).is_file() for path in (text, f"templates/{text}"))
    except OSError:
        return False


def _paths(root: Path, store: str, job: Job, say: Say) -> Iterator[Problem]:
    for text, path, rule in (
        (job.input.path, ("input", "path"), readable),
        (job.input.text, ("input", "text"), readable),
        (job.output.path, ("output", "path"), resolved),
        (job.output.errors or "", ("output", "errors"), resolved),
    ):
        problem = _outside(root, text, rule)
        if problem:
            yield say(problem[0], *path, code=problem[1])
    yield from _missing_templates(root, job, say)
    for written, name in ((job.output.path, "path"), (job.output.errors, "errors")):
        if written is not None and not _outside(root, written, resolved):
            yield from _overwritten(root, store, job, say, written, name)
    errors = job.output.errors
    if errors is not None and not _outside(root, errors, resolved) and same_place(root, errors, job.output.path):
        yield say("`errors` would replace the output", "output", "errors", code="BS122")


def _missing_templates(root: Path, job: Job, say: Say) -> Iterator[Problem]:
    for turn in job.prompt.turns:
        if not isinstance(turn.text, TemplateRef):
            continue
        template = turn.text.template
        problem = _outside(root, template, readable)
        found = not problem and any((root / p).is_file() for p in (template, f"templates/{template}"))
        if problem or not found:
            hint = "" if problem else did_you_mean(template, _templates(root))
            message, code = problem or (f"there is no template {template}", "BS126")
            yield say(f"{message} ({hint})" if hint else message, "prompt", *turn.path, "template", code=code)


def _overwritten(root: Path, store: str, job: Job, say: Say, written: str, name: str) -> Iterator[Problem]:
    """Yield a problem if an output would replace a file that is no output."""
    output = PurePosixPath(written)
    if reason := forbidden(root, store, written):
        yield say(reason, "output", name, code="BS124")
    source = job.input.path
    if source and not _outside(root, source, readable) and same_place(root, written, source):
        yield say("the output would replace the input", "output", name, code="BS124")
    elif pattern := next((p for p in (job.input.path, job.input.text) if _matches_output(p, output)), ""):
        yield say(f"the output would be part of the input, {pattern}, the next time", "output", name, code="BS124")


def _matches_output(pattern: str, output: PurePosixPath) -> bool:
    if not any(mark in pattern for mark in "*?["):
        return False
    deep = "**" in pattern or len(PurePosixPath(pattern).parts) == len(output.parts)
    return deep and output.match(pattern)


def _templates(root: Path) -> list[str]:
    found = (path.relative_to(root).as_posix() for path in (root / "templates").rglob("*") if path.is_file())
    return list(itertools.islice(found, 500))


def _outside(root: Path, text: str, rule: Callable[[Path, str], Path]) -> tuple[str, str] | None:
    if len(text) > _MAX_PATH or "\n" in text:
        return "this is not a path", "BS124"
    if ".." in PurePosixPath(text).parts:
        return f"{text} has `..` in it; write it relative to the project's root", "BS301"
    try:
        rule(root, text)
    except TrustError as error:
        return error.message, error.code
    except (OSError, ValueError):
        return f"{text} is not a path", "BS124"
    return None


def _parameters(job: Job, say: Say, own_server: bool) -> Iterator[Problem]:
    for name, message in wrong_parameters(job, own_server=own_server):
        yield say(message, "parameters", *((name,) if name else ()), code="BS128")
    if job.line_format == "anthropic" and job.endpoint is not None:
        yield say("the anthropic format has no endpoint; remove `endpoint`", "endpoint", code="BS128")
    if job.line_format == "openai" and job.prompt.turns[-1].role == "assistant":
        number = len(job.prompt.turns) - 1
        yield say("the last message must have the role user", "prompt", "messages", number, "role", code="BS112")


def _webhook(job: Job, say: Say, environ: Mapping[str, str]) -> Iterator[Problem]:
    if job.webhook is None:
        return
    try:
        check_webhook(job.webhook.url)
    except TrustError as error:
        yield say(error.message, "webhook", "url", code=error.code)
    try:
        # Check the variable's name only. Its value is needed when a job is submitted.
        resolve_webhook_secret(job.webhook.secret.env, {**environ, job.webhook.secret.env: "x"})
    except TrustError as error:
        yield say(f"{error.message}: {error.hint}", "webhook", "secret", "env", code=error.code)


def _plain(value: Any, say: Say, path: tuple[str | int, ...]) -> Iterator[Problem]:
    match value:
        case dict():
            for key, item in value.items():
                yield from _plain(item, say, (*path, key))
        case list():
            for number, item in enumerate(value):
                yield from _plain(item, say, (*path, number))
        case float() if not math.isfinite(value):
            yield say("this number can't be written as JSON", *path, code="BS102")
