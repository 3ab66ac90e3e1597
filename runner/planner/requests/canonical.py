"""Rewrite a foreign request body in this job's form: same request, same bytes."""

from __future__ import annotations

from typing import Any

import orjson

from runner.jobspec.models import Job

_LEADING_FIELDS = {
    "anthropic": ("model", "system", "messages"),
    "openai": ("model", "instructions", "messages", "input"),
}
"""The fields that come first, in this order; the others follow by name, as parameters do."""


def canonical(job: Job, body: dict[str, Any]) -> bytes:
    """Return the body's bytes with our order of fields, and each message's role first.

    Raises orjson.JSONEncodeError.
    """
    leading = [name for name in _LEADING_FIELDS[job.line_format] if name in body]
    rest = sorted(name for name in body if name not in leading)
    return orjson.dumps({name: _plain(name, body[name]) for name in (*leading, *rest)})


def body_of(job: Job, line: dict[str, Any]) -> dict[str, Any] | None:
    """Return the body in an uploaded line; None for another format or endpoint."""
    if job.line_format == "anthropic":
        found = line.get("params")
    else:
        found = line.get("body") if line.get("url") == job.url else None
    return found if isinstance(found, dict) else None


def _plain(name: str, value: Any) -> Any:
    if name in {"messages", "input"} and isinstance(value, list):
        return [_message(message) for message in value]
    return value


def _message(value: Any) -> Any:
    if not isinstance(value, dict) or "role" not in value:
        return value
    return {"role": value["role"], **value}
