"""Partitions that lockfiles record, as the specs know them now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runner.context import Context
from runner.errors import Problem
from runner.executor.creates import unrecorded_creates
from runner.jobspec.job_spec import JobSpec, Project
from runner.jobspec.matrix import Scalar, address_of, address_value, split_address
from runner.jobspec.periods import suggestion
from runner.reconciler.plan.partition_state import PartitionState, partition_states
from runner.state.project_paths import ProjectPaths

_Key = tuple[str, frozenset[tuple[str, str]], frozenset[str]]
"""Name, values of a matrix, and names of partition vars."""


@dataclass(frozen=True, slots=True)
class Record:
    """A recorded partition, by its present address."""

    address: str
    values: Mapping[str, Scalar]
    state: PartitionState


class RecordedPartitions:
    """What a project's lockfiles and ledger record. With `read`, reads each once; raises LockfileError."""

    def __init__(self, project: Project, *, read: bool) -> None:
        places = ProjectPaths.for_provider(project.root, project.settings.store, project.isolated_provider)
        context = Context(project, places)
        self.states: dict[str, PartitionState] = {}
        lockfiles = [context.lockfile(path) for path in context.lock_paths()] if read else []
        for lockfile in lockfiles:
            self.states |= partition_states(lockfile)
        # A create whose process died before the lockfile's line: its partition may be known to the ledger alone.
        for address in unrecorded_creates(context, lockfiles) if read else ():
            self.states[address] = PartitionState.OPEN
        self._split = [(address, *split_address(address)) for address in self.states]
        self._indexes: dict[tuple[str, ...], dict[_Key, list[tuple[str, dict[str, str]]]]] = {}

    def partitions_of(self, maker: JobSpec, given: Mapping[str, str]) -> tuple[Record, ...]:
        """Return other partitions that differ from a job only in values not `given`."""
        own = matrix_values(maker)
        wanted = {axis: given[axis] for axis in maker.partition if given.get(axis)}
        found: dict[str, Record] = {}
        for former, values in self._known_as(maker, own):
            now = {**own, **{axis: values[axis] for axis in maker.partition}}
            address = address_of(maker.job.name, now)
            same = all(values[axis] == value for axis, value in wanted.items())
            if same and (address == former or address not in self.states):
                own_values = {axis: now[axis] for axis in maker.partition}
                found[address] = Record(address, own_values, self.states[former])
        if not maker.missing_vars:
            found.pop(maker.address, None)
        return tuple(found.values())

    def _known_as(self, maker: JobSpec, own: Mapping[str, Scalar]) -> Iterator[tuple[str, dict[str, str]]]:
        moves = maker.origin.job.moves if maker.origin is not None else ()
        names: list[tuple[str, Mapping[str, Scalar]]] = [(move.from_, move.added) for move in moves if not move.to]
        index = self._index(maker.partition)
        left = {move.from_ for move in moves if move.to}
        for base, added in ((maker.job.name, {}), *names):
            axes = {axis: address_value(value) for axis, value in own.items() if axis not in added}
            key = base, frozenset(axes.items()), frozenset(maker.partition)
            yield from (entry for entry in index.get(key, ()) if entry[0] not in left)
        for move in moves:
            if move.to and move.from_ in self.states:
                values = split_address(move.to)[1]
                if values.keys() == own.keys() | set(maker.partition):
                    yield move.from_, values

    def _index(self, partition: tuple[str, ...]) -> dict[_Key, list[tuple[str, dict[str, str]]]]:
        if partition not in self._indexes:
            index: dict[_Key, list[tuple[str, dict[str, str]]]] = defaultdict(list)
            for address, name, values in self._split:
                rest = frozenset((axis, value) for axis, value in values.items() if axis not in partition)
                index[name, rest, frozenset(values.keys() & set(partition))].append((address, values))
            self._indexes[partition] = index
        return self._indexes[partition]


def matrix_values(maker: JobSpec) -> dict[str, Scalar]:
    """Return the matrix values in a job's address."""
    return dict(maker.origin.variant.address) if maker.origin is not None else {}


def respelled(maker: JobSpec, recorded: tuple[Record, ...]) -> Iterator[Problem]:
    """Yield a problem if a lockfile records a period under another spelling."""
    axes = maker.axes
    if axes.schedule is None:
        return
    lines = []
    for one in sorted(recorded, key=lambda one: one.address):
        written = str(one.values[axes.period])
        right = suggestion(axes.schedule.every, written)
        if right not in {"", written}:
            moved = address_of(maker.job.name, {**matrix_values(maker), **one.values, axes.period: right})
            lines.append(f"  - {{from: '{one.address}', to: '{moved}'}}")
    if lines:
        what = "1 partition" if len(lines) == 1 else f"{len(lines):,} partitions"
        message = f"the lockfile has {what} of this job in another spelling; to keep them, add:\nmoved:\n"
        yield maker.problem(message + "\n".join(lines), "partition", axes.period, code="BS137")
