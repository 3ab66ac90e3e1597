"""Pins: the origin of a job's answers, as digests and plain facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.base.digest import digest_json
from runner.jobspec.loader import JobSpec

NOT_PINNED = {
    "provider",
    "webhook",
    "budget",
    "canary",
    "review",
    "shards",
    "retry",
    "max_in_flight",
    "tolerate",
    "moved",
    "evaluate",
    "tags",
}
"""Fields that change how answers are obtained, not which answers or their format."""
_LEFT_OUT: Any = {**dict.fromkeys(NOT_PINNED, True), "input": {"empty"}}
_MAX_SHOWN = 80
"""Longest parameter text that the lockfile shows."""
_MAX_DEPTH = 2
"""Depth to which the lockfile shows a parameter field by field; a schema inside one is deeper."""


@dataclass(frozen=True, slots=True)
class Pins:
    """The origin of a job's answers, without prompts.

    `templates` maps path to digest. `parameters` have long values as digests. `requests` is the digest of the desired
    key sequence. `parts` maps parts of the spec to a digest or number.
    """

    spec: str
    templates: dict[str, str]
    input_path: str
    input_digest: str
    rows: int
    requests: str
    parameters: dict[str, Any]
    model: str
    line_format: str
    endpoint: str
    parts: dict[str, str | int | bool]


def pins_of(spec: JobSpec, templates: dict[str, str], input_digest: str, rows: int, requests: str) -> Pins:
    """Return a rendered job's pins; `templates` maps paths to digests."""
    job, parameters = spec.job, spec.parameters
    return Pins(
        spec=digest_json(job.model_dump(mode="json", exclude=_LEFT_OUT, exclude_defaults=True)),
        templates=dict(sorted(templates.items())),
        input_path=job.input.source,
        input_digest=input_digest,
        rows=rows,
        requests=requests,
        parameters={name: _shortened(parameters[name]) for name in sorted(parameters)},
        model=job.model,
        line_format=job.line_format,
        endpoint=job.url,
        parts=dict(sorted(_parts(spec))),
    )


def _parts(spec: JobSpec) -> Iterator[tuple[str, str | int | bool]]:
    job = spec.job
    for turn in job.prompt.turns:
        text = turn.text if isinstance(turn.text, str) else turn.text.model_dump()
        yield f"prompt.{'.'.join(map(str, turn.path))}", _digest([turn.role, text])
    for name, value in job.vars.items():
        yield f"vars.{name}", _digest(value)
    if job.salt:
        yield "salt", _digest(job.salt)
    if job.answer_schema is not None:
        yield f"schema {job.answer_schema}", _digest(spec.schema)
    yield from (("dedupe", job.dedupe), ("replicates", job.replicates))
    for name, value in job.input.model_dump(
        mode="json", exclude={"path", "text", "empty"}, exclude_defaults=True
    ).items():
        yield f"input.{name}", value if isinstance(value, int) else _digest(value)


def _digest(value: Any) -> str:
    return digest_json(value)[:16]


def _shortened(value: Any, depth: int = 0) -> Any:
    if (
        isinstance(value, dict)
        and depth < _MAX_DEPTH
        and len(value) <= 20
        and all(len(name) <= _MAX_SHOWN for name in value)
    ):
        return {name: _shortened(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (int, float, bool)) or value is None or (isinstance(value, str) and len(value) <= _MAX_SHOWN):
        return value
    return f"sha256:{digest_json(value)}"
