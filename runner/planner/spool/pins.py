"""What a job's answers come from, as digests and plain facts that a lockfile may show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from runner.base.digest import digest_json
from runner.jobspec.loader import JobSpec

_NOT_PINNED = {
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
}
"""Fields that change how answers are got, and neither which nor how they are written."""
_MAX_SHOWN = 80
"""The longest text that the lockfile shows of a parameter."""
_MAX_DEPTH = 2
"""So deep the lockfile shows a parameter field by field; a schema inside of one is deeper."""


@dataclass(frozen=True, slots=True)
class Pins:
    """What a job's answers come from, as digests and plain facts; no prompts. Written to the lockfile.

    `templates` maps path to digest. `parameters` are the request's fields as they are sent, long values as digests.
    `requests` is the digest of the desired key sequence, over `rows` rows. `parts` tells parts of the spec apart by
    name: texts as digests, numbers as they are.
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
    """What a rendered job was made from; `used` are its templates' digests by path."""
    job, parameters = spec.job, spec.parameters
    return Pins(
        spec=digest_json(job.model_dump(mode="json", exclude=_NOT_PINNED, exclude_defaults=True)),
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
    for name, value in job.input.model_dump(mode="json", exclude={"path", "text"}, exclude_defaults=True).items():
        yield f"input.{name}", value if isinstance(value, int) else _digest(value)


def _digest(value: Any) -> str:
    return digest_json(value)[:16]


def _shortened(value: Any, depth: int = 0) -> Any:
    """A parameter as the lockfile shows it: itself where it is short, else its digest; of an object, field by field."""
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
