"""The lines of a lockfile as pydantic models, and one line as bytes. docs/lockfile.md describes each field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

FORMAT = 2
"""The format that batchspec writes. Format 1 had no `moved` lines; it is read too, and written as 2 when it changes."""

Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Short = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Line(BaseModel):
    """Base of the lines: frozen, and strict, because what is not the format must not pass for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Header(Line):
    """The first line. `current` maps each job's address to the digest of its pins, null where branches differed."""

    lockfile: int = Field(ge=1)
    keys: str
    project: str
    current: dict[str, Short | None]


class PinsLine(Line):
    """What answers come from, by digest; see `runner.planner.render.Pins`. `commit` is git's, with `+` when changed.

    `parts` tells parts of the spec by name, so that a plan can say which of them changed; lines of older versions have
    none.
    """

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
    """Requests of an ended batch as the service counts them."""

    total: int
    completed: int
    failed: int


class UsageField(Line):
    """Tokens an ended batch took, as the service counts them; what was written to caches only if it is not 0."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0


class EstimateField(Line):
    """What a batch was expected to take when it went out; `output_tokens` and `cost` (USD) where that was known."""

    input_tokens: int
    output_tokens: int | None = None
    cost: float | None = None


class PriceField(Line):
    """What a batch was billed by: USD for a million tokens, to a millionth; for writes only if there were any."""

    input: float
    output: float
    cached: float
    cache_write: float | None = None
    cache_write_1h: float | None = None


class BatchLine(Line):
    """One batch. `state` is `submitted`, or how it ended; what follows it is there once it has ended.

    `shard` is null for a batch that came without our metadata. `bytes` is null where the shard was not cut here.
    `estimate` is what it was expected to take; `canary` says that the rest waited for it; `override` is the reason why
    it was submitted over a budget: these three stand in a line only where there is something to say. `cost` is in USD,
    by `price`, which lines of older versions lack.
    `results` holds SHA-256 of the raw files as they were downloaded; `gone` says, where it stands, that the service did
    not have them any more when they were wanted.
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
        """Whether the batch has ended."""
        return self.state != "submitted"


class ErrorsField(Line):
    """The file of an output's failed rows, where the spec keeps them apart."""

    path: str
    digest: Hex
    rows: int


class OutputLine(Line):
    """One written output: its digest, its rows, the batches its answers come from, and the pins it was written under.

    `pins` is null in lines of older versions. `errors` is there where failed rows are kept apart.
    """

    output: str
    job: str
    digest: Hex
    rows: int
    batches: tuple[str, ...] = Field(strict=False)
    pins: Short | None = None
    errors: ErrorsField | None = None


class MovedLine(Line):
    """A job was renamed: what its old address `was` made belongs to `moved`. The batches keep the name they had."""

    moved: str
    was: str


AnyLine = PinsLine | BatchLine | OutputLine | MovedLine


_ONLY_ENDED = ("ended_at", "counts", "usage", "cost", "models", "results")
_ONLY_SET = ("estimate", "canary", "override", "price", "gone")


def dump_line(line: Header | AnyLine) -> bytes:
    """Return a line as JSON with a line end. Optional fields that hold nothing are left out."""
    fields = line.model_dump(mode="json")
    for name in _left_out(line):
        del fields[name]
    for part in ("usage", "price"):
        if fields.get(part):
            fields[part] = {name: n for name, n in fields[part].items() if n or not name.startswith("cache_write")}
    return orjson.dumps(fields) + b"\n"


def _left_out(line: Header | AnyLine) -> list[str]:
    match line:
        case BatchLine():
            unset = [name for name in _ONLY_SET if not getattr(line, name)]
            return unset if line.ended else [*_ONLY_ENDED, *unset]
        case OutputLine():
            return [name for name in ("pins", "errors") if getattr(line, name) is None]
        case PinsLine() if not line.parts:
            return ["parts"]
    return []
