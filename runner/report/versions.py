"""A lockfile's versions, one after the other. Parses only changed lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from runner.errors import LockfileError
from runner.state.lockfile import Lockfile, rank, unite_current
from runner.state.lockfile_lines import AnyLine, BatchLine, Header, MovedLine, OutputLine, PinsLine
from runner.state.lockfile_parser import MARKERS, check_header, parse, parse_line

_Name = tuple[type, str]


_Batches = tuple[BatchLine | None, BatchLine | None]
_Outputs = tuple[OutputLine | None, OutputLine | None]


class Delta:
    """Lines before and after, between two versions. `jobs` are all names with a change."""

    def __init__(self, batches: Sequence[_Batches], outputs: Mapping[str, _Outputs], jobs: Iterable[str]) -> None:
        self.outputs = outputs
        self._batches: dict[str, list[tuple[BatchLine | None, BatchLine]]] = {}
        self._outputs: dict[str, list[_Outputs]] = {}
        for before, after in batches:
            if after is not None:
                self._batches.setdefault(after.job, []).append((before, after))
        for pair in outputs.values():
            for job in {line.job for line in pair if line is not None}:
                self._outputs.setdefault(job, []).append(pair)
        gone = {before.job for before, _ in batches if before is not None}
        self.jobs = frozenset({*jobs, *gone, *self._batches, *self._outputs})

    def batches_of(self, job: str) -> Sequence[tuple[BatchLine | None, BatchLine]]:
        """Return the changed batches that a job has now."""
        return self._batches.get(job, ())

    def outputs_of(self, job: str) -> Sequence[_Outputs]:
        """Return the changed outputs that a job has or had."""
        return self._outputs.get(job, ())


@dataclass(slots=True)
class LockfileVersions:
    """A lockfile that advances from version to version; the content of `now` changes."""

    project: str
    now: Lockfile = field(init=False)
    _batches: dict[str, BatchLine] = field(default_factory=dict)
    _outputs: dict[str, OutputLine] = field(default_factory=dict)
    _pins: dict[str, PinsLine] = field(default_factory=dict)
    _lines: dict[bytes, Header | AnyLine] = field(default_factory=dict)
    _same: dict[_Name, list[AnyLine]] = field(default_factory=dict)
    _paths: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.now = Lockfile(self.project)

    def outputs_of(self, job: str) -> frozenset[str]:
        """Return the paths of a job's outputs."""
        return frozenset(self._paths.get(job, ()))

    def advance(self, data: bytes, shown: str) -> Delta:
        """Go on to the version with these bytes. Raises LockfileError, and stays at the present one."""
        raw = {line for line in data.splitlines() if line.strip() and not line.startswith(MARKERS)}
        try:
            added = {line: self._parsed(line, shown) for line in raw - self._lines.keys()}
        except LockfileError:
            parse(data, shown, self.project)  # the same error, with its line
            raise
        kept = (line for text, line in self._lines.items() if text in raw)
        headers = [line for line in (*kept, *added.values()) if isinstance(line, Header)]
        if raw and not headers:
            parse(data, shown, self.project)
        touched: set[_Name] = set()
        for text in self._lines.keys() - raw:
            self._drop(self._lines.pop(text), touched)
        for text, line in added.items():
            self._lines[text] = line
            self._take(line, touched)
        return self._applied(touched, unite_current(header.current for header in headers))

    def _parsed(self, text: bytes, shown: str) -> Header | AnyLine:
        line = parse_line(text, shown)
        if isinstance(line, Header):
            check_header(line, shown, self.project)
        return line

    def _drop(self, line: Header | AnyLine, touched: set[_Name]) -> None:
        if not isinstance(line, Header):
            touched.add(_name(line))
            self._same[_name(line)].remove(line)

    def _take(self, line: Header | AnyLine, touched: set[_Name]) -> None:
        if not isinstance(line, Header):
            touched.add(_name(line))
            self._same.setdefault(_name(line), []).append(line)

    def _applied(self, touched: set[_Name], current: dict[str, str | None]) -> Delta:
        batches: dict[str, _Batches] = {}
        outputs: dict[str, _Outputs] = {}
        jobs = {job for job in current.keys() | self.now.current.keys() if _differ(job, current, self.now.current)}
        digests: set[str] = set()
        moves = self.now.moves
        for kind, name in touched:
            lines = self._same[kind, name]
            if kind is BatchLine:
                batches[name] = _replace(self._batches, name, lines)
            elif kind is OutputLine:
                outputs[name] = _replace(self._outputs, name, lines)
                self._index(name, *outputs[name])
            elif kind is PinsLine:
                _replace(self._pins, name, lines)
                digests.add(name)
            if not lines:
                del self._same[kind, name]
        if any(kind is MovedLine for kind, _ in touched):
            moves = frozenset(line for found in self._same.values() for line in found if isinstance(line, MovedLine))
        if digests:
            jobs |= {job for job, digest in current.items() if digest in digests}
        if moves != self.now.moves:
            jobs |= {name for move in moves ^ self.now.moves for name in (move.moved, move.was)}
        self.now = Lockfile(self.project, current, self._pins, self._batches, self._outputs, moves)
        return Delta(tuple(batches.values()), outputs, jobs)

    def _index(self, path: str, before: OutputLine | None, after: OutputLine | None) -> None:
        if before is not None:
            self._paths[before.job].discard(path)
        if after is not None:
            self._paths.setdefault(after.job, set()).add(path)


_L = TypeVar("_L", bound=AnyLine)


def _replace(known: dict[str, _L], name: str, lines: Sequence[AnyLine]) -> tuple[_L | None, _L | None]:
    """Replace a line by the best of some; return both."""
    before = known.pop(name, None)
    after = cast("_L", max(lines, key=rank)) if lines else None
    if after is not None:
        known[name] = after
    return before, after


def _differ(job: str, first: Mapping[str, str | None], second: Mapping[str, str | None]) -> bool:
    return job not in first or job not in second or first[job] != second[job]


def _name(line: AnyLine) -> _Name:
    match line:
        case PinsLine():
            return PinsLine, line.pins
        case BatchLine():
            return BatchLine, line.batch
        case OutputLine():
            return OutputLine, line.output
        case MovedLine():
            return MovedLine, f"{line.moved} {line.was}"
