"""Closed partitions: their input and templates are not read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from runner.context import Context
from runner.errors import TrustError
from runner.executor.creates import unrecorded_creates
from runner.executor.outcome import Outcome, RenderedJob
from runner.jobspec.loader import JobSpec
from runner.outputs.recovered import SUFFIX
from runner.planner.kept import drop
from runner.reconciler.observe.observe import ApplyOptions, job_lockfile
from runner.reconciler.plan.partition_state import PartitionState, fixed_pins, partition_states, same_prompt
from runner.reconciler.plan.plan import ClosedPartition
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import OutputLine, PinsLine


class PartitionStates:
    """The states of partitions, computed once a lockfile."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, tuple[Lockfile, Mapping[str, PartitionState]]] = {}

    def state(self, spec: JobSpec) -> PartitionState:
        """Return a partition's state; open if never asked. Raises LockfileError."""
        lockfile = job_lockfile(self._context, spec)
        known = self._known.get(spec.lock_path)
        if known is None or known[0] != lockfile:
            known = self._known[spec.lock_path] = lockfile, partition_states(lockfile)
        return known[1].get(spec.address, PartitionState.OPEN)


def closed_partitions(context: Context, jobs: Sequence[JobSpec], options: ApplyOptions) -> tuple[ClosedPartition, ...]:
    """Return the closed partitions among `jobs` that need nothing: not reopened, and with their outputs.

    Omits those named by `--retry-failed` or `--ask-unknown`, and those with a create that no lockfile records: its
    answers may be paid for. Raises LockfileError and StoreError.
    """
    states, named = PartitionStates(context), options.retry_failed | options.ask_unknown
    paths = {spec.lock_path for spec in jobs if spec.partition}
    unrecorded = unrecorded_creates(context, [context.lockfile(path) for path in sorted(paths)]) if paths else ()
    found = []
    for spec in jobs:
        if not spec.partition or options.reopen or spec.address in named:
            continue
        if spec.moved_from and spec.moved_from not in context.lockfile(spec.lock_path).aliases(spec.address):
            continue  # apply records the rename
        if any(name in unrecorded for name in context.names(spec)):
            continue  # apply adopts the batch
        state = states.state(spec)
        if state is not PartitionState.OPEN and _has_output(context, spec):
            found.append(ClosedPartition(spec.address, state is PartitionState.CLOSED_FAILED))
    return tuple(found)


def with_changes(
    context: Context, closed: Sequence[ClosedPartition], jobs: Sequence[JobSpec], prepared: Sequence[RenderedJob]
) -> tuple[ClosedPartition, ...]:
    """Return the partitions with whether they were asked with another template than today's."""
    specs = {spec.address: spec for spec in jobs}
    now: dict[str, list[PinsLine]] = defaultdict(list)
    for job in prepared:
        if job.waits is None:
            now[job.desired.spec.job.name].append(job.pins)
    found = []
    for one in closed:
        spec = specs[one.address]
        pins = fixed_pins(job_lockfile(context, spec), one.address) if now[spec.job.name] else None
        earlier = pins is not None and not any(same_prompt(pins, two, spec.partition) for two in now[spec.job.name])
        found.append(replace(one, earlier=earlier))
    return tuple(found)


def closed_outcomes(context: Context, closed: Sequence[ClosedPartition]) -> tuple[Outcome, ...]:
    """Return the outcomes of partitions that need nothing, and drop kept requests of a killed apply."""
    found = []
    for one in closed:
        if not one.failed:
            drop(context.places.kept(one.address))
        message = f"closed with failed requests; `--retry-failed {one.address}` asks them again" if one.failed else ""
        found.append(Outcome(one.address, "failed" if one.failed else "succeeded", None, message))
    return tuple(found)


def _has_output(context: Context, spec: JobSpec) -> bool:
    lockfile = job_lockfile(context, spec)
    names = frozenset(lockfile.aliases(spec.address))
    lines = [line for line in lockfile.outputs.values() if line.job in names and not line.output.endswith(SUFFIX)]
    return any(_is_written(context, line) for line in lines)


def _is_written(context: Context, line: OutputLine) -> bool:
    """Return whether an output is there. A path that a forged line leads out of the project is not."""
    paths = [line.output, *((line.errors.path,) if line.errors is not None else ())]
    try:
        return all(context.places.output(path).is_file() for path in paths)
    except TrustError:
        return False
