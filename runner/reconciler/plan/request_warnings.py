"""Warnings on requests that the service will refuse."""

from __future__ import annotations

import re

from runner.errors import InputError, Problem
from runner.jobspec.loader import JobSpec
from runner.jobspec.settings import LocalProfile
from runner.money.estimate import token_limit
from runner.money.tokens import encoding_of
from runner.planner.render import Desired
from runner.planner.requests.refusal_rules import Limits, finding_text

_STOPS_AT_WINDOW = re.compile(r"claude-(opus|sonnet|haiku)-(4-[5-9]|[5-9])|claude-(fable|mythos)-")
"""Anthropic's models that stop at the end of the window if `max_tokens` exceeds it (Claude docs, "Handling stop
reasons": `model_context_window_exceeded`). Older models, and OpenAI's, refuse the request.
"""


def limits_of(spec: JobSpec) -> Limits | None:
    """Return the limits of a job's model; None if the user's own server has it."""
    if isinstance(spec.profile, LocalProfile) and spec.profile.backend == "openai":
        return None
    job = spec.job
    encoding = encoding_of(job.model) if job.line_format == "openai" else None
    reserved = 0 if _STOPS_AT_WINDOW.search(job.model) else token_limit(job.parameters) or 0
    return Limits(job.model, job.line_format, reserved, encoding.name if encoding is not None else "")


def row_warnings(desired: Desired, *, hidden: bool = False) -> tuple[str, ...]:
    """Return warnings on rows; names none if the input is `hidden`."""
    limits = limits_of(desired.spec)
    return tuple(finding_text(one, limits, hidden=hidden) for one in desired.findings)


def as_error(desired: Desired) -> InputError:
    """Return a job's warnings as an error, for `--strict`."""
    source = desired.spec.job.input.source
    hidden = [finding_text(one, limits_of(desired.spec), hidden=True) for one in desired.findings]
    return InputError(
        [
            Problem(source, 0, 0, text, code="BS211", public=public)
            for text, public in zip(row_warnings(desired), hidden, strict=True)
        ]
    )
