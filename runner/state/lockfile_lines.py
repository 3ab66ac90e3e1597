"""A lockfile's lines as models. docs/lockfile.md describes the fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

FORMAT = 2
"""The format that batchspec writes. It also reads format 1, which had no `moved` lines."""

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Short = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Line(BaseModel):
    """Base of the lines."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Header(Line):
    """The first line. Conflicting branches leave null in `current`."""

    lockfile: int = Field(ge=1)
    keys: str
    project: str
    current: dict[str, Short | None]


class PinsLine(Line):
    """What answers were made from; see `runner.planner.spool.pins`."""

    pins: Short
    job: str
    model: str
    format: str
    endpoint: str
    parameters: dict[str, Any]
    input: str
    input_digest: Hex
    rows: int
    templates: dict[str, Hex]
    spec: Hex
    requests: Hex
    tool: str
    commit: str
    parts: dict[str, str | int | bool] = Field(default_factory=dict)


class CountsField(Line):
    """The service's request counts."""

    total: int
    completed: int
    failed: int


class UsageField(Line):
    """The service's token counts."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0


class EstimateField(Line):
    """The estimate at submission, in tokens and USD."""

    input_tokens: int
    output_tokens: int | None = None
    cost: float | None = None


class PriceField(Line):
    """USD per million tokens, rounded to a millionth."""

    input: float
    output: float
    cached: float
    cache_write: float | None = None
    cache_write_1h: float | None = None


class BatchLine(Line):
    """One batch. The fields after `state` need an ended batch.

    `shard` is null without batchspec's metadata; `bytes` if another machine cut the shard. `cost` is in USD. `results`
    has SHA-256 digests.
    """

    batch: str
    job: str
    realm: str
    shard: Hex | None
    requests: int
    bytes: int | None
    attempt: int
    round: int
    request_id: str
    file: str
    created_at: str
    pins: Short | None
    estimate: EstimateField | None = None
    canary: bool = False
    override: str | None = None
    state: Literal["submitted", "completed", "failed", "expired", "cancelled"]
    ended_at: str | None = None
    counts: CountsField | None = None
    usage: UsageField | None = None
    cost: float | None = None
    price: PriceField | None = None
    models: tuple[str, ...] = Field(default=(), strict=False)
    results: dict[str, Hex] = Field(default_factory=dict)
    gone: bool = False

    @property
    def ended(self) -> bool:
        """Return whether the batch has ended."""
        return self.state != "submitted"


class ErrorsField(Line):
    """An output's file of failed rows."""

    path: str
    digest: Hex
    rows: int


class PartitionField(Line):
    """A partition when its output was written, and how many batches its address had then, in all realms.

    `open`: requests were unknown. `failed`: more failed than the job tolerates.
    """

    state: Literal["open", "closed", "failed"]
    batches: int = Field(ge=0)


class OutputLine(Line):
    """One written output. `partition` is null without one, and from versions before this field."""

    output: str
    job: str
    digest: Hex
    rows: int
    batches: tuple[str, ...] = Field(strict=False)
    pins: Short | None = None
    errors: ErrorsField | None = None
    partition: PartitionField | None = None


class MovedLine(Line):
    """A rename: batches of `was` belong to `moved`."""

    moved: str
    was: str


AnyLine = PinsLine | BatchLine | OutputLine | MovedLine


_ONLY_ENDED = ("ended_at", "counts", "usage", "cost", "models", "results")
_ONLY_SET = ("estimate", "canary", "override", "price", "gone")


def dump_line(line: Header | AnyLine) -> bytes:
    """Return a line as JSON, without unset optional fields."""
    fields = line.model_dump(mode="json")
    for name in _omitted(line):
        del fields[name]
    for part in ("usage", "price"):
        if fields.get(part):
            fields[part] = {name: n for name, n in fields[part].items() if n or not name.startswith("cache_write")}
    return orjson.dumps(fields) + b"\n"


def _omitted(line: Header | AnyLine) -> list[str]:
    match line:
        case BatchLine():
            unset = [name for name in _ONLY_SET if not getattr(line, name)]
            return unset if line.ended else [*_ONLY_ENDED, *unset]
        case OutputLine():
            return [name for name in ("pins", "errors", "partition") if getattr(line, name) is None]
        case PinsLine() if not line.parts:
            return ["parts"]
    return []
