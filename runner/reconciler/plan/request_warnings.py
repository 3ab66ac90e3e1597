"""Warnings about the requests of a job that the service will refuse: what is looked for, and the sentences."""

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
"""Models of Anthropic that stop at the end of the window where `max_tokens` goes beyond it (Claude docs, "Handling stop
reasons": `model_context_window_exceeded`); older ones, and OpenAI's, refuse the request."""


def limits_of(spec: JobSpec) -> Limits | None:
    """Return the limits of a job's model; None where a server of the user's own has it."""
    if isinstance(spec.profile, LocalProfile) and spec.profile.backend == "openai":
        return None
    job = spec.job
    encoding = encoding_of(job.model) if job.line_format == "openai" else None
    reserved = 0 if _STOPS_AT_WINDOW.search(job.model) else token_limit(job.parameters) or 0
    return Limits(job.model, job.line_format, reserved, encoding.name if encoding is not None else "")


def row_warnings(desired: Desired, *, hidden: bool = False) -> tuple[str, ...]:
    """Return sentences about rows that the service will refuse; no row is named where the input is `hidden`."""
    limits = limits_of(desired.spec)
    return tuple(finding_text(one, limits, hidden=hidden) for one in desired.findings)


def as_error(desired: Desired) -> InputError:
    """Return the warnings of a job as an error, for `--strict`."""
    source = desired.spec.job.input.source
    hidden = [finding_text(one, limits_of(desired.spec), hidden=True) for one in desired.findings]
    return InputError(
        [
            Problem(source, 0, 0, text, code="BS211", public=public)
            for text, public in zip(row_warnings(desired), hidden, strict=True)
        ]
    )
