"""The lockfile as a value: parsed from text, merged, and written as text. No files are touched here.

JSON Lines with a fixed key order: a header, `moved` lines, `pins` by digest, one line a batch sorted by batch id, one
line an output.
Two versions merge by union of lines, so git's `merge=union` is enough; the reader takes duplicates and conflict
markers in its stride. docs/lockfile.md describes each field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import LockfileError

FORMAT = 2
"""The format that is written. Format 1 had no `moved` lines; it is read as it is, and written as 2 when it changes."""
_MARKERS = (b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")

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
_KINDS: dict[str, type[Header | AnyLine]] = {
    "lockfile": Header,
    "moved": MovedLine,
    "pins": PinsLine,
    "batch": BatchLine,
    "output": OutputLine,
}


@dataclass(frozen=True, slots=True)
class Lockfile:
    """One lockfile's content. An empty one is what a file that is not there says."""

    project: str
    current: Mapping[str, str | None] = field(default_factory=dict)
    pins: Mapping[str, PinsLine] = field(default_factory=dict)
    batches: Mapping[str, BatchLine] = field(default_factory=dict)
    outputs: Mapping[str, OutputLine] = field(default_factory=dict)
    moves: frozenset[MovedLine] = frozenset()

    def names(self, address: str) -> tuple[str, ...]:
        """The address, and those it had before it was renamed, newest first; a circle of renames ends in itself."""
        found = {address: None}
        waiting = [address]
        while waiting:
            name = waiting.pop()
            for old in sorted(move.was for move in self.moves if move.moved == name and move.was not in found):
                found[old] = None
                waiting.append(old)
        return tuple(found)

    def of(self, address: str, realm: str) -> tuple[BatchLine, ...]:
        """The batches of one address and realm, by batch id; those made under an earlier name of it are among them."""
        names = frozenset(self.names(address))
        found = (b for b in self.batches.values() if b.job in names and b.realm == realm)
        return tuple(sorted(found, key=lambda b: b.batch))

    def pins_of(self, address: str) -> PinsLine | None:
        """What an address is pinned to now; None before its first apply and where branches differed."""
        for name in self.names(address):
            if name in self.current:
                digest = self.current[name]
                return self.pins.get(digest) if digest else None
        return None

    def with_moved(self, address: str, old: str) -> Lockfile:
        """With `old` renamed to `address`."""
        current = dict(self.current)
        if old in current and address not in current:
            current[address] = current[old]
        current.pop(old, None)
        return replace(self, current=current, moves=self.moves | {MovedLine(moved=address, was=old)})

    def without(self, address: str) -> Lockfile:
        """With nothing of an address and its earlier names left."""
        names = frozenset(self.names(address))
        return replace(
            self,
            current={name: digest for name, digest in self.current.items() if name not in names},
            batches={batch: line for batch, line in self.batches.items() if line.job not in names},
            outputs={path: line for path, line in self.outputs.items() if line.job not in names},
            moves=frozenset(move for move in self.moves if move.moved not in names),
        )

    def addresses(self) -> tuple[str, ...]:
        """Every address with a batch, an output or pins, sorted; earlier names of another are left out."""
        later = {move.was for move in self.moves}
        found = {batch.job for batch in self.batches.values()} | {out.job for out in self.outputs.values()}
        found |= set(self.current)
        return tuple(sorted(found - later))

    def with_batches(self, lines: Iterable[BatchLine]) -> Lockfile:
        """With batches added or moved on; a batch that has ended does not go back to submitted.

        One that another realm turns out to have, as where its URL is spelled in another way now, goes over to it. Where
        results are others than they were, outputs were not written from them and name the batch no more.
        """
        batches, others = dict(self.batches), set()
        for line in lines:
            standing = batches.get(line.batch)
            if line.ended or standing is None or not standing.ended or standing.realm != line.realm:
                batches[line.batch] = line
                if standing is not None and standing.results and standing.results != line.results:
                    others.add(line.batch)
        outputs = {
            path: output.model_copy(update={"batches": tuple(b for b in output.batches if b not in others)})
            for path, output in self.outputs.items()
        }
        return replace(self, batches=batches, outputs=outputs)

    def with_pins(self, line: PinsLine) -> Lockfile:
        """With an address pinned to `line`; a line of that digest that stands already is kept as it is."""
        return replace(
            self,
            pins={line.pins: line, **self.pins},
            current={**self.current, line.job: line.pins},
        )

    def with_output(self, line: OutputLine) -> Lockfile:
        """With an output's line put in place of an earlier one."""
        return replace(self, outputs={**self.outputs, line.output: line})

    def text(self) -> bytes:
        """The file's bytes: the same content gives the same bytes everywhere. Pins that nothing names are left out."""
        named = {digest for digest in self.current.values() if digest}
        named |= {b.pins for b in self.batches.values() if b.pins}
        named |= {o.pins for o in self.outputs.values() if o.pins}
        header = Header(lockfile=FORMAT, keys="k1", project=self.project, current=dict(sorted(self.current.items())))
        lines: list[Header | AnyLine] = [header]
        moves: list[MovedLine] = sorted(self.moves, key=lambda move: (move.moved, move.was))
        lines += moves
        lines += [self.pins[d] for d in sorted(self.pins) if d in named]
        lines += [self.batches[b] for b in sorted(self.batches)]
        lines += [self.outputs[o] for o in sorted(self.outputs)]
        return b"".join(_dump(line) for line in lines)


def parse(data: bytes, file: str, project: str) -> Lockfile:
    """The content of a lockfile's bytes.

    Raises LockfileError with `file:LINE` for a line that is not the format, for a format that is newer, and for a
    lockfile of another project.
    """
    headers: list[Header] = []
    lines: list[AnyLine] = []
    for number, raw in enumerate(data.splitlines(), 1):
        if not raw.strip() or raw.startswith(_MARKERS):
            continue
        line = _parse_line(raw, f"{file}:{number}")
        if isinstance(line, Header):
            _check_header(line, f"{file}:{number}", project)
            headers.append(line)
        else:
            lines.append(line)
    if data.strip() and not headers:
        raise LockfileError(f"{file}:1: this is not a lockfile: its header is missing", hint=_RESTORE)
    return _assemble(project, [h.current for h in headers], lines)


def merge(first: Lockfile, second: Lockfile) -> Lockfile:
    """The union of two versions of one lockfile. Commutative, associative and idempotent."""
    lines: list[AnyLine] = []
    for side in (first, second):
        lines += [*side.pins.values(), *side.batches.values(), *side.outputs.values(), *side.moves]
    return _assemble(first.project, [first.current, second.current], lines)


_RESTORE = "restore it from git; the batches in it are found again at the service"


def _parse_line(raw: bytes, where: str) -> Header | AnyLine:
    try:
        fields = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise LockfileError(f"{where}: not a lockfile line: {error.msg}", hint=_RESTORE) from error
    kind = next(iter(fields), None) if isinstance(fields, dict) else None
    if kind not in _KINDS:
        raise LockfileError(f"{where}: not a lockfile line", hint=_RESTORE)
    if kind == "lockfile" and isinstance(fields[kind], int) and fields[kind] > FORMAT:
        raise LockfileError(
            f"{where}: this lockfile has format {fields[kind]}; this batchspec reads up to {FORMAT}",
            hint="update batchspec; nothing was changed",
            code="BS402",
        )
    try:
        return _KINDS[kind].model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or kind
        raise LockfileError(f"{where}: not a lockfile line: `{name}` is wrong", hint=_RESTORE) from error


_UNNAMED = "default"
"""The name of a project whose batchspec.yaml says none, or that has none (runner.jobspec.settings)."""


def _check_header(header: Header, where: str, project: str) -> None:
    if header.keys != "k1":
        raise LockfileError(
            f"{where}: the keys are {header.keys}; this batchspec knows k1",
            hint="update batchspec; nothing was changed",
            code="BS402",
        )
    if header.project != project:
        unnamed = project == _UNNAMED
        said = "no batchspec.yaml says `project`: its name is default" if unnamed else f"batchspec.yaml says {project}"
        raise LockfileError(
            f"{where}: this lockfile is of project {header.project}, and {said}",
            hint=f"write `project: {header.project}` into batchspec.yaml at the project's root"
            if unnamed
            else f"put the old name back: `project: {header.project}`; the name is part of every idempotency key",
            code="BS403",
        )


def _assemble(project: str, currents: Iterable[Mapping[str, str | None]], lines: list[AnyLine]) -> Lockfile:
    current: dict[str, str | None] = {}
    for one in currents:
        for address, digest in one.items():
            current[address] = digest if current.get(address, digest) == digest else None
    return Lockfile(
        project,
        current,
        _union({}, [x for x in lines if isinstance(x, PinsLine)], lambda p: p.pins),
        _union({}, [x for x in lines if isinstance(x, BatchLine)], lambda b: b.batch),
        _union({}, [x for x in lines if isinstance(x, OutputLine)], lambda o: o.output),
        frozenset(x for x in lines if isinstance(x, MovedLine)),
    )


_L = TypeVar("_L", PinsLine, BatchLine, OutputLine)


def _union(standing: Mapping[str, _L], lines: Iterable[_L], name: Any) -> dict[str, _L]:
    merged = dict(standing)
    for line in lines:
        key = name(line)
        merged[key] = max(merged[key], line, key=_rank) if key in merged else line
    return merged


def _rank(line: AnyLine) -> tuple[int, bytes]:
    """A batch that has ended comes after one that has not, and one whose results are gone after that."""
    return (2 * line.ended + line.gone if isinstance(line, BatchLine) else 0, _dump(line))


def _dump(line: Header | AnyLine) -> bytes:
    fields = line.model_dump(mode="json")
    if isinstance(line, BatchLine) and not line.ended:
        for name in ("ended_at", "counts", "usage", "cost", "models", "results"):
            del fields[name]
    if isinstance(line, BatchLine):
        for name in ("estimate", "canary", "override", "price", "gone"):
            if not fields[name]:
                del fields[name]
    for part in ("usage", "price"):
        if fields.get(part):
            fields[part] = {name: n for name, n in fields[part].items() if n or not name.startswith("cache_write")}
    if isinstance(line, OutputLine):
        for name in ("pins", "errors"):
            if fields[name] is None:
                del fields[name]
    if isinstance(line, PinsLine) and not line.parts:
        del fields["parts"]
    return orjson.dumps(fields) + b"\n"
