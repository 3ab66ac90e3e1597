"""Rules about a valid job that go beyond one value: paths, parameters that are known, the webhook."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from runner.errors import Problem, TrustError
from runner.spec.models import Job, TemplateRef
from runner.spec.trust import check_webhook, inside, resolve_env

Say = Callable[..., Problem]
"""Makes a problem from a message and the path of a value in the spec."""

_OWN_FIELDS = {
    "model": "`model`",
    "messages": "`prompt`",
    "input": "`prompt`",
    "system": "`prompt.system`",
    "instructions": "`prompt.system`",
}
_MAX_PATH = 4096


def check_job(root: Path, store: str, job: Job, say: Say, environ: Mapping[str, str]) -> list[Problem]:
    """Everything that is wrong with a job whose shape is right."""
    return [
        *_paths(root, store, job, say),
        *_parameters(job, say),
        *_webhook(job, say, environ),
        *_plain(job.vars, say, ("vars",)),
        *_plain(job.parameters, say, ("parameters",)),
    ]


def _paths(root: Path, store: str, job: Job, say: Say) -> Iterator[Problem]:
    """Paths stay inside the project; templates are there; an output replaces nothing that is not an output."""
    for text, path in ((job.input.path, ("input", "path")), (job.output.path, ("output", "path"))):
        problem = _outside(root, text)
        if problem:
            yield say(problem, *path)
    for name, part in (("system", job.prompt.system), ("user", job.prompt.user)):
        if not isinstance(part, TemplateRef):
            continue
        problem = _outside(root, part.template)
        found = not problem and any((root / p).is_file() for p in (part.template, f"templates/{part.template}"))
        if problem or not found:
            yield say(problem or f"there is no template {part.template}", "prompt", name, "template")
    output = PurePosixPath(job.output.path)
    first = output.parts[0] if output.parts else ""
    if first in {".git", "specs", "templates", PurePosixPath(store).parts[0]}:
        yield say(f"an output can't be written below {first}/", "output", "path")
    if output == PurePosixPath(job.input.path):
        yield say("the output would replace the input", "output", "path")


def _outside(root: Path, text: str) -> str:
    if len(text) > _MAX_PATH or "\n" in text:
        return "this is not a path"
    if ".." in PurePosixPath(text).parts:
        return f"{text} has `..` in it; write it relative to the project's root"
    try:
        inside(root, text)
    except TrustError as error:
        return error.message
    except (OSError, ValueError):
        return f"{text} is not a path"
    return ""


def _parameters(job: Job, say: Say) -> Iterator[Problem]:
    """Parameters are checked where they are known; the others are passed on."""
    given = job.parameters
    for name, instead in _OWN_FIELDS.items():
        if name in given and not (name == "input" and job.url != "/v1/responses"):
            yield say(f"`{name}` is made from {instead}; remove it here", "parameters", name)
    if "stream" in given:
        yield say("a batch does not stream; remove `stream`", "parameters", "stream")
    if isinstance(given.get("n"), int) and given["n"] != 1:
        yield say("one request gives one answer; use `replicates` to ask several times", "parameters", "n")
    if job.url == "/v1/responses" and "max_tokens" in given:
        yield say("/v1/responses calls it `max_output_tokens`", "parameters", "max_tokens")
    if job.url != "/v1/responses" and "max_output_tokens" in given:
        yield say("only /v1/responses calls it that; here it is `max_tokens`", "parameters", "max_output_tokens")
    temperature, highest = given.get("temperature"), 1 if job.line_format == "anthropic" else 2
    if temperature is not None and not (_number(temperature) and 0 <= temperature <= highest):
        yield say(f"`temperature` is a number from 0 to {highest}", "parameters", "temperature")
    for name in ("max_tokens", "max_output_tokens", "max_completion_tokens"):
        if name in given and not (_number(given[name]) and isinstance(given[name], int) and given[name] > 0):
            yield say(f"`{name}` is a whole number above 0", "parameters", name)


def _webhook(job: Job, say: Say, environ: Mapping[str, str]) -> Iterator[Problem]:
    if job.webhook is None:
        return
    try:
        check_webhook(job.webhook.url)
    except TrustError as error:
        yield say(error.message, "webhook", "url")
    try:
        # Whether the name may be used is checked now; whether it is set only matters when something is submitted.
        resolve_env(job.webhook.secret.env, {**environ, job.webhook.secret.env: "x"})
    except TrustError as error:
        yield say(f"{error.message}: {error.hint}", "webhook", "secret", "env")


def _plain(value: Any, say: Say, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """Only values that JSON carries the same everywhere."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _plain(item, say, (*path, key))
        case list():
            for number, item in enumerate(value):
                yield from _plain(item, say, (*path, number))
        case float() if not math.isfinite(value):
            yield say("this number can't be written as JSON", *path)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
