"""Whether partitions are open or closed, from the lockfile alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.reconciler.plan.classify import KeyCounts
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import BatchLine, OutputLine, PartitionField, PinsLine


class PartitionState(Enum):
    """State of a recorded partition."""

    OPEN = "open"
    CLOSED = "closed"
    CLOSED_FAILED = "closed, failed"


@dataclass(frozen=True, slots=True)
class Waits:
    """Why a started partition submits and writes nothing: its requests can't be rendered as they were.

    `gone`: its input is gone, so its answers are saved without rows.
    """

    reason: str
    gone: bool = False


def partition_states(lockfile: Lockfile) -> Mapping[str, PartitionState]:
    """Return the state of each current address that was submitted.

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


def fixed_pins(lockfile: Lockfile, address: str) -> PinsLine | None:
    """Return the pins under which a started partition finishes, if any.

    They are its output's if no batch came later, else its newest batch's.
    """
    names = frozenset(lockfile.aliases(address))
    batches = [batch for batch in lockfile.batches.values() if batch.job in names]
    outputs = [output for output in lockfile.outputs.values() if output.job in names and output.pins]
    later = [output for output in outputs if _is_newest(output, batches)]
    newest = max((batch for batch in batches if batch.pins), key=lambda b: (b.created_at, b.batch), default=None)
    found: Sequence[BatchLine | OutputLine] = later or ([newest] if newest is not None else outputs)
    return lockfile.pins.get(found[0].pins or "") if found else None


def same_question(one: PinsLine, other: PinsLine) -> bool:
    """Return whether two pins differ in their input at most."""
    return all(getattr(one, name) == getattr(other, name) for name in _QUESTION)


def same_prompt(one: PinsLine, other: PinsLine, partition: Collection[str]) -> bool:
    """Return whether two partitions ask with one model, parameters and template; `partition` names their vars."""
    own = {f"vars.{name}" for name in partition}

    def parts(pins: PinsLine) -> dict[str, str | int | bool]:
        return {name: value for name, value in pins.parts.items() if name not in own and not name.startswith("input.")}

    names = ("model", "format", "endpoint", "parameters", "templates")
    return parts(one) == parts(other) and all(getattr(one, name) == getattr(other, name) for name in names)


_QUESTION = ("model", "format", "endpoint", "parameters", "templates", "spec")


def _is_newest(output: OutputLine, batches: Sequence[BatchLine]) -> bool:
    if output.partition is None:
        return all(batch.ended for batch in batches)
    return output.partition.batches == len(batches)


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
