"""Whether partitions are open or closed, from the lockfile alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from enum import Enum

from runner.reconciler.plan.classify import KeyCounts
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, OutputLine, PartitionField


class PartitionState(Enum):
    """State of a recorded partition."""

    OPEN = "open"
    CLOSED = "closed"
    CLOSED_FAILED = "closed, failed"


def partition_states(lockfile: Lockfile) -> Mapping[str, PartitionState]:
    """Return the state of each current address. A missing address was never submitted.

    A partition is closed if its output line records that and it has no later batches.
    """
    batches: dict[str, list[BatchLine]] = defaultdict(list)
    outputs: dict[str, list[OutputLine]] = defaultdict(list)
    for batch in lockfile.batches.values():
        batches[batch.job].append(batch)
    for output in lockfile.outputs.values():
        outputs[output.job].append(output)
    found = {}
    renamed = {move.moved for move in lockfile.moves} - {move.was for move in lockfile.moves}
    for address in sorted(renamed.union(lockfile.addresses())):
        names = lockfile.aliases(address) if lockfile.moves else (address,)
        found[address] = _state(
            [batch for name in names for batch in batches.get(name, ())],
            [output for name in names for output in outputs.get(name, ())],
        )
    return found


def closing(lockfile: Lockfile, address: str, tally: KeyCounts, *, exceeds_tolerance: bool) -> PartitionField:
    """Return what an output's line records of its partition."""
    settled = not (tally.missing or tally.in_flight or tally.unknown)
    names = frozenset(lockfile.aliases(address))
    return PartitionField(
        state=("failed" if exceeds_tolerance else "closed") if settled else "open",
        batches=sum(batch.job in names for batch in lockfile.batches.values()),
    )


def _state(batches: Sequence[BatchLine], outputs: Collection[OutputLine]) -> PartitionState:
    if any(not batch.ended for batch in batches):
        return PartitionState.OPEN
    states = {
        output.partition.state
        for output in outputs
        if output.partition is not None and output.partition.batches == len(batches)
    }
    if "failed" in states:
        return PartitionState.CLOSED_FAILED
    if "closed" in states:
        return PartitionState.CLOSED
    recorded = any(output.partition is not None for output in outputs)
    if recorded or not outputs or any(batch.gone for batch in batches):
        return PartitionState.OPEN
    return PartitionState.CLOSED
