"""Observe one job. Changes nothing at the service, and writes only to the scratch folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np

from runner.context import Context, Realm
from runner.jobspec.loader import JobSpec
from runner.outputs.reader import OutputAnswers, read_outputs, takes_nothing_for_an_answer
from runner.planner.render import Desired
from runner.planner.shards import cut, measure
from runner.providers.protocol import BatchApi
from runner.reconciler.observe.batch_errors import reasons
from runner.reconciler.observe.batches import BatchRecord, ResultState
from runner.reconciler.observe.key_facts import is_read, leaves_open
from runner.reconciler.observe.ownership import check_ownership
from runner.reconciler.observe.previous_outputs import failed_rows_of, find_previous_outputs
from runner.reconciler.observe.proof import prove
from runner.reconciler.observe.row_changes import row_changes
from runner.reconciler.plan.classify_job import Classification, classify_job, wanted_round
from runner.reconciler.plan.job_facts import job_facts
from runner.reconciler.plan.overwrite import OutputFiles, OverwritePolicy, policies_for
from runner.reconciler.plan.plan import (
    JobPlan,
    OutputState,
    ShardSize,
    plan_job,
    with_proof,
    without_new,
    without_submits,
)
from runner.reconciler.plan.reasons import RowChanges
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import PinsLine
from runner.state.results import KEY
from runner.state.sorted_file import SortedFile


class Resume(Enum):
    """What `listen` may do for a job."""

    SUBMIT = "what the last apply allowed"
    WRITE = "submit nothing, because no apply on this machine recorded a limit for it"
    DOWNLOAD = "download only, because its spec, templates or input differ from what the last apply asked"


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """What the user asked for, by job address. `retry_failed` covers only batches in `ended`, None means all.

    `reopen` renders partitions as they are today.
    """

    ask_unknown: frozenset[str] = frozenset()
    retry_failed: frozenset[str] = frozenset()
    prune: bool = False
    no_new: bool = False
    reopen: bool = False
    ended: frozenset[str] | None = None
    resume: Resume | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """One job as it is now, and its plan.

    output_policy, errors_policy: of the output and of its file of failed rows.
    sizes: requests of each shard to submit.
    """

    desired: Desired
    realm: Realm
    lockfile: Lockfile
    batches: tuple[BatchRecord, ...]
    from_outputs: dict[str, OutputAnswers]
    classification: Classification
    output_state: OutputState
    output_policy: OverwritePolicy
    errors_policy: OverwritePolicy
    plan: JobPlan
    sizes: frozenset[int]


def observe(
    context: Context,
    desired: Desired,
    pins: PinsLine,
    lockfile: Lockfile,
    batches: Sequence[BatchRecord],
    api: BatchApi | None,
    options: ApplyOptions,
    gone: Collection[str] = (),
) -> Observed:
    """Observe one job and plan it. Raises BatchspecError.

    lockfile, batches: from `job_lockfile()` and `collect_batches()`, with indexes rebuilt.
    """
    spec = desired.spec
    realm = context.realm(spec)
    names = lockfile.aliases(spec.address)
    batches = tuple(replace(known, forgotten=True) if known.line.batch in gone else known for known in batches)
    files = OutputFiles.of(spec.job.output, lockfile, context.places.output)
    # Hash the output while keys are classified. Wait for the hash first only if answers must be read from the output.
    with ThreadPoolExecutor(1) as hashing:
        recorded = hashing.submit(_is_recorded, context, files)
        own, from_outputs = _read_outputs(context, desired, names, batches, files, recorded)
        classified = partial(
            classify_job,
            desired,
            from_outputs=from_outputs,
            ask_unknown=spec.address in options.ask_unknown,
            retry_failed=spec.address in options.retry_failed,
            later=() if options.ended is None else frozenset(known.line.batch for known in batches) - options.ended,
        )
        batches = _recognise(desired, batches, from_outputs, classified)
        classification = classified(batches)
        trusted = recorded.result()
    errors_recorded = files.line is not None and context.errors_recorded(spec, files.line, context.digest)
    state = _output_state(files, trusted, lockfile, pins, classification)
    if state is OutputState.GOOD and any(known.index is not None and known.index.summary.empty for known in batches):
        state = OutputState.STALE if takes_nothing_for_an_answer(files.path, spec.job.output) else state
    if state is OutputState.GOOD and not errors_recorded:
        state = OutputState.ERRORS
    if not (trusted and errors_recorded):
        check_ownership(context, desired, names, {known.line.batch for known in batches})
    policies = policies_for(
        files,
        state,
        batches,
        own,
        from_outputs,
        classification.tally.unknown,
        trusted=trusted,
        errors_recorded=errors_recorded,
    )
    tally = classification.tally
    changed = tally.missing or (state is OutputState.STALE and not tally.in_flight)
    facts = job_facts(
        spec=spec,
        realm=realm.name,
        lockfile=lockfile,
        pins=pins,
        files=files,
        batches=batches,
        from_outputs=from_outputs,
        classification=classification,
        shards=_measure(desired, classification),
        output_state=state,
        policies=policies,
        failures=list(reasons(desired, batches, realm.shards, context.places.shown(realm.shards))),
        rows=_changes(desired, lockfile, pins, files, trusted=trusted) if changed else None,
        shown=context.places.shown,
    )
    proof = prove(context, spec, batches, from_outputs, classification.used, api)
    plan = with_proof(plan_job(facts), proof.unknown, proof.unproven)
    plan = without_new(plan) if options.no_new else plan
    if options.resume is not None and options.resume is not Resume.SUBMIT:
        plan = without_submits(plan, options.resume.value, writes=options.resume is Resume.WRITE)
    sizes = frozenset(shard.requests for shard in facts.shards)
    return Observed(desired, realm, lockfile, batches, from_outputs, classification, state, *policies, plan, sizes)


def _read_outputs(
    context: Context,
    desired: Desired,
    names: Sequence[str],
    batches: Sequence[BatchRecord],
    files: OutputFiles,
    recorded: Future[bool],
) -> tuple[dict[str, OutputAnswers], dict[str, OutputAnswers]]:
    """Return answers in the job's own output, and in any. Only a `recorded` digest counts."""
    scratch, root = desired.spool.folder, context.places.files
    lines = context.outputs_of(names)
    listed = {batch for line in (*lines, *filter(None, [files.line])) for batch in line.batches}
    # An output has no answer of a batch whose end the lockfile does not know.
    batches = [known for known in batches if known.line.ended or known.line.batch in listed]
    unread = any(known.results is not ResultState.PRESENT for known in batches)
    current: list[Path] = []
    if unread and recorded.result() and files.line is not None:
        current = [files.path, *failed_rows_of(root, files.line)]
    own = read_outputs(current, desired.spec, scratch / "output-index")
    if any(_needs_older_outputs(known, own) for known in batches):
        writes = [files.path] if files.errors is None else [files.path, files.errors]
        found = find_previous_outputs(root, lines, writes)
        if older := [path for path in found if path not in current]:
            return own, read_outputs([*current, *older], desired.spec, scratch / "older-index")
    return own, own


def job_lockfile(context: Context, spec: JobSpec) -> Lockfile:
    """Return a job's lockfile, with the spec's rename. Raises LockfileError."""
    lockfile = context.lockfile(spec.lock_path)
    if spec.moved_from and spec.moved_from not in lockfile.aliases(spec.address):
        lockfile = lockfile.with_moved(spec.address, spec.moved_from)
    return lockfile


def _needs_older_outputs(known: BatchRecord, own: dict[str, OutputAnswers]) -> bool:
    return known.ended and (known.results is ResultState.INCOMPLETE or not is_read(known, own))


def _changes(
    desired: Desired, lockfile: Lockfile, pins: PinsLine, files: OutputFiles, *, trusted: bool
) -> RowChanges | None:
    line = files.line
    old = lockfile.pins.get(line.pins) if line is not None and line.pins else lockfile.pins_of(pins.job)
    if not trusted or old is None or line is None or old.input_digest == pins.input_digest:
        return None
    return row_changes(desired, files.path, line.rows)


def _recognise(
    desired: Desired,
    batches: tuple[BatchRecord, ...],
    from_outputs: dict[str, OutputAnswers],
    classified: partial[Classification],
) -> tuple[BatchRecord, ...]:
    """Find keys of batches without a stored shard: the same shard may be rendered here."""
    missing = {
        known.line.batch: known.line.shard
        for known in batches
        if known.keys is None and known.line.shard and leaves_open(known, from_outputs)
    }
    if not missing:
        return batches
    found: dict[str, SortedFile] = {}
    wanted = set(missing.values())
    # Try what was missing without these batches, then what was missing at first: some may be answered by now.
    for others in ([known for known in batches if known.line.batch not in missing], []):
        classification = classified(others)
        for number, _ in classification.tally.submit:
            for shard in cut(desired.spool, desired.spec.job.shards, partial(wanted_round, number), None):
                if shard.digest in wanted and shard.digest not in found:
                    path = desired.spool.folder / f"{shard.digest}.keys.npy"
                    np.save(path, shard.keys)
                    found[shard.digest] = SortedFile.open(path, KEY)
        if found.keys() >= wanted:
            break
    return tuple(
        replace(known, keys=found.get(missing[known.line.batch])) if known.line.batch in missing else known
        for known in batches
    )


def _measure(desired: Desired, classification: Classification) -> list[ShardSize]:
    sizes = []
    for number, _ in classification.tally.submit:
        shards = measure(desired.spool, desired.spec.job.shards, partial(wanted_round, number))
        sizes += [ShardSize(number, requests, size) for requests, size in shards]
    return sizes


def _is_recorded(context: Context, files: OutputFiles) -> bool:
    return files.line is not None and files.path.is_file() and context.digest(files.path) == files.line.digest


def _output_state(
    files: OutputFiles, trusted: bool, lockfile: Lockfile, pins: PinsLine, classification: Classification
) -> OutputState:
    if not files.path.is_file():
        return OutputState.MISSING
    if files.line is None:
        return OutputState.UNRECORDED
    if not trusted:
        return OutputState.FOREIGN
    current = lockfile.current.get(pins.job) == pins.pins and files.line.pins in {None, pins.pins}
    same = current and set(files.line.batches) == classification.used
    return OutputState.GOOD if same else OutputState.STALE
