"""Warnings on requests that the service will refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
    return tuple(text for _, text in _warnings(desired, hidden=hidden))


def _warnings(desired: Desired, *, hidden: bool = False) -> Iterator[tuple[str, str]]:
    limits = limits_of(desired.spec)
    if desired.spool.rows == 0 and desired.spec.job.input.empty == "warn":
        yield "BS212", "the input has no rows; to allow that, set `input.empty: allow`"
    for one in desired.findings:
        yield "BS211", finding_text(one, limits, hidden=hidden)


def as_error(desired: Desired) -> InputError:
    """Return a job's warnings as an error, for `--strict`."""
    source = desired.spec.job.input.source
    shown, hidden = _warnings(desired), _warnings(desired, hidden=True)
    return InputError(
        [
            Problem(source, 0, 0, text, code=code, public=public)
            for (code, text), (_, public) in zip(shown, hidden, strict=True)
        ]
    )
