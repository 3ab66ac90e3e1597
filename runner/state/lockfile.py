"""The lockfile as a value. Versions merge by union of lines (git's `merge=union`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from runner.state.lockfile_lines import FORMAT, AnyLine, BatchLine, Header, MovedLine, OutputLine, PinsLine, dump_line


@dataclass(frozen=True, slots=True)
class Lockfile:
    """One lockfile's content."""

    project: str
    current: Mapping[str, str | None] = field(default_factory=dict)
    pins: Mapping[str, PinsLine] = field(default_factory=dict)
    batches: Mapping[str, BatchLine] = field(default_factory=dict)
    outputs: Mapping[str, OutputLine] = field(default_factory=dict)
    moves: frozenset[MovedLine] = frozenset()

    def aliases(self, address: str) -> tuple[str, ...]:
        """Return the address and its former names, newest first."""
        found = {address: None}
        waiting = [address]
        while waiting:
            name = waiting.pop()
            for old in sorted(move.was for move in self.moves if move.moved == name and move.was not in found):
                found[old] = None
                waiting.append(old)
        return tuple(found)

    def batches_of(self, address: str, realm: str) -> tuple[BatchLine, ...]:
        """Return an address's batches, sorted."""
        names = frozenset(self.aliases(address))
        found = (b for b in self.batches.values() if b.job in names and b.realm == realm)
        return tuple(sorted(found, key=lambda b: b.batch))

    def pins_of(self, address: str) -> PinsLine | None:
        """Return an address's pins; None if branches disagree."""
        for name in self.aliases(address):
            if name in self.current:
                digest = self.current[name]
                return self.pins.get(digest) if digest else None
        return None

    def with_moved(self, address: str, old: str) -> Lockfile:
        """Rename `old` to `address`."""
        current = dict(self.current)
        if old in current and address not in current:
            current[address] = current[old]
        current.pop(old, None)
        return replace(self, current=current, moves=self.moves | {MovedLine(moved=address, was=old)})

    def without(self, address: str) -> Lockfile:
        """Remove an address and its aliases."""
        names = frozenset(self.aliases(address))
        return replace(
            self,
            current={name: digest for name, digest in self.current.items() if name not in names},
            batches={batch: line for batch, line in self.batches.items() if line.job not in names},
            outputs={path: line for path, line in self.outputs.items() if line.job not in names},
            moves=frozenset(move for move in self.moves if move.moved not in names),
        )

    def addresses(self) -> tuple[str, ...]:
        """Return current addresses, sorted."""
        later = {move.was for move in self.moves}
        found = {batch.job for batch in self.batches.values()} | {out.job for out in self.outputs.values()}
        found |= set(self.current)
        return tuple(sorted(found - later))

    def with_batches(self, lines: Iterable[BatchLine]) -> Lockfile:
        """Add or update batches. An ended batch never returns to submitted.

        A batch may change its realm. Outputs drop a batch whose results changed; their partitions are open.
        """
        batches, changed = dict(self.batches), set()
        for line in lines:
            existing = batches.get(line.batch)
            if line.ended or existing is None or not existing.ended or existing.realm != line.realm:
                batches[line.batch] = line
                if existing is not None and existing.results and existing.results != line.results:
                    changed.add(line.batch)
        outputs = {path: _without_batches(output, changed) for path, output in self.outputs.items()}
        return replace(self, batches=batches, outputs=outputs)

    def with_pins(self, line: PinsLine) -> Lockfile:
        """Pin an address. A line with that digest stays."""
        return replace(
            self,
            pins={line.pins: line, **self.pins},
            current={**self.current, line.job: line.pins},
        )

    def with_output(self, line: OutputLine) -> Lockfile:
        """Add or replace an output's line."""
        return replace(self, outputs={**self.outputs, line.output: line})

    def referenced(self) -> Lockfile:
        """Return the lockfile as `text` keeps it."""
        named = {digest for digest in self.current.values() if digest}
        named |= {b.pins for b in self.batches.values() if b.pins}
        named |= {o.pins for o in self.outputs.values() if o.pins}
        return replace(self, pins={digest: line for digest, line in self.pins.items() if digest in named})

    def text(self) -> bytes:
        """Return the bytes, without unreferenced pins. Equal content gives equal bytes."""
        pins = self.referenced().pins
        header = Header(lockfile=FORMAT, keys="k1", project=self.project, current=dict(sorted(self.current.items())))
        lines: list[Header | AnyLine] = [header]
        moves: list[MovedLine] = sorted(self.moves, key=lambda move: (move.moved, move.was))
        lines += moves
        lines += [pins[d] for d in sorted(pins)]
        lines += [self.batches[b] for b in sorted(self.batches)]
        lines += [self.outputs[o] for o in sorted(self.outputs)]
        return b"".join(dump_line(line) for line in lines)


def _without_batches(output: OutputLine, changed: Collection[str]) -> OutputLine:
    remaining = tuple(batch for batch in output.batches if batch not in changed)
    if len(remaining) == len(output.batches):
        return output
    partition = output.partition and output.partition.model_copy(update={"state": "open"})
    return output.model_copy(update={"batches": remaining, "partition": partition})


def merge(first: Lockfile, second: Lockfile) -> Lockfile:
    """Unite two versions. Commutative, associative and idempotent."""
    lines: list[AnyLine] = []
    for side in (first, second):
        lines += [*side.pins.values(), *side.batches.values(), *side.outputs.values(), *side.moves]
    return assemble(first.project, [first.current, second.current], lines)


def assemble(project: str, currents: Iterable[Mapping[str, str | None]], lines: Iterable[AnyLine]) -> Lockfile:
    """Build a lockfile. Conflicting headers unset an address's pins."""
    lines = list(lines)
    return Lockfile(
        project,
        unite_current(currents),
        _union({}, [x for x in lines if isinstance(x, PinsLine)], lambda p: p.pins),
        _union({}, [x for x in lines if isinstance(x, BatchLine)], lambda b: b.batch),
        _union({}, [x for x in lines if isinstance(x, OutputLine)], lambda o: o.output),
        frozenset(x for x in lines if isinstance(x, MovedLine)),
    )


def unite_current(currents: Iterable[Mapping[str, str | None]]) -> dict[str, str | None]:
    """Unite each job's pins; None if two differ."""
    current: dict[str, str | None] = {}
    for one in currents:
        for address, digest in one.items():
            current[address] = digest if current.get(address, digest) == digest else None
    return current


_L = TypeVar("_L", PinsLine, BatchLine, OutputLine)


def _union(existing: Mapping[str, _L], lines: Iterable[_L], name: Any) -> dict[str, _L]:
    merged = dict(existing)
    for line in lines:
        key = name(line)
        merged[key] = max(merged[key], line, key=rank) if key in merged else line
    return merged


def rank(line: AnyLine) -> tuple[int, bytes]:
    """Return which of two lines for one thing wins: the larger one."""
    return (2 * line.ended + line.gone if isinstance(line, BatchLine) else 0, dump_line(line))
