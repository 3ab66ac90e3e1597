"""Actual: everything that is known of one job now, judged against what it wants, as the facts a plan is made from.

Reads only: the service is asked, nothing on it is changed, and nothing is written outside the scratch folder.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from runner.base.digest import sha256_file
from runner.base.humanize import counted
from runner.context import Context, Realm
from runner.jobspec.budget_options import allowed
from runner.jobspec.loader import JobSpec
from runner.outputs.line_notes import line_notes
from runner.outputs.reader import OutputAnswers, read_outputs, takes_nothing_for_an_answer
from runner.planner.render import Desired
from runner.planner.shards import cut, measure
from runner.providers.protocol import BatchApi
from runner.reconciler.observe.batch_errors import reasons
from runner.reconciler.observe.batches import BatchRecord, ResultState
from runner.reconciler.observe.key_facts import is_indexed, is_read, leaves_open
from runner.reconciler.observe.ownership import check_ownership
from runner.reconciler.observe.previous_outputs import failed_rows_of, find_previous_outputs
from runner.reconciler.observe.proof import prove
from runner.reconciler.observe.row_changes import row_changes
from runner.reconciler.plan.classify_job import Classification, classify_job, wanted_round
from runner.reconciler.plan.overwrite import (
    OverwritePolicy,
    is_somebodys_own,
    policy_for_errors_file,
    policy_for_output,
)
from runner.reconciler.plan.plan import (
    BatchFacts,
    JobFacts,
    JobPlan,
    OutputState,
    ShardSize,
    plan_job,
    with_proof,
    without_new,
)
from runner.reconciler.plan.plan_limits import most_refusals
from runner.reconciler.plan.reasons import RowChanges
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import PinsLine
from runner.state.results import KEY
from runner.state.sorted_file import SortedFile


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """What a person asked for on the command line, by job address; to `runner.api` also by the name of several jobs.

    `no_new` submits nothing that was never asked. `retry_failed` is about what stands failed when it is said, once. So
    an apply adds in `ended` which batches of a job had ended by then; None is all.
    """

    ask_unknown: frozenset[str] = frozenset()
    retry_failed: frozenset[str] = frozenset()
    prune: bool = False
    no_new: bool = False
    ended: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """One job, observed: its batches, the verdict on its keys, and its plan.

    `fate` is what becomes of an output that is to be rewritten, `fate_apart` of its file of failed rows; `sizes` are
    the requests of each shard to submit.
    """

    desired: Desired
    realm: Realm
    lockfile: Lockfile
    batches: tuple[BatchRecord, ...]
    standing: dict[str, OutputAnswers]
    judged: Classification
    output_state: OutputState
    fate: OverwritePolicy
    fate_apart: OverwritePolicy
    plan: JobPlan
    sizes: frozenset[int]


def observe(
    context: Context,
    desired: Desired,
    pins: PinsLine,
    lockfile: Lockfile,
    batches: Sequence[BatchRecord],
    api: BatchApi | None,
    word: ApplyOptions,
    gone: Collection[str] = (),
) -> Observed:
    """Observe one job. Reads only. Raises BatchspecError.

    `lockfile` is `job_lockfile()` and `batches` are `collect_batches()`, with their indexes rebuilt. `api` is None if
    the service is not asked. `gone` names batches whose results the service turned out not to have.
    """
    spec = desired.spec
    realm = context.realm(spec)
    names = lockfile.aliases(spec.address)
    batches = tuple(replace(known, forgotten=True) if known.line.batch in gone else known for known in batches)
    output = context.places.output(spec.job.output.path)
    apart = None if spec.job.output.errors is None else context.places.output(spec.job.output.errors)
    line = lockfile.outputs.get(spec.job.output.path)
    unread = any(known.results is not ResultState.PRESENT for known in batches)
    # The output is hashed while keys are judged; only where answers must be read from it is it waited for first.
    with ThreadPoolExecutor(1) as beside:
        recorded = beside.submit(_is_recorded, output, lockfile, spec.job.output.path)
        scratch = desired.spool.folder
        files = context.places.files
        mine = [output, *failed_rows_of(files, line)] if unread and recorded.result() and line is not None else []
        standing = own = read_outputs(mine, spec, scratch / "output-index")
        if any(_needs_older_outputs(known, own) for known in batches):
            writes = [output] if apart is None else [output, apart]
            found = find_previous_outputs(files, context.outputs_of(names), writes)
            if others := [path for path in found if path not in mine]:
                standing = read_outputs([*mine, *others], spec, scratch / "older-index")
        judging = partial(
            classify_job,
            desired,
            standing=standing,
            ask_unknown=spec.address in word.ask_unknown,
            retry_failed=spec.address in word.retry_failed,
            later=() if word.ended is None else frozenset(known.line.batch for known in batches) - word.ended,
        )
        batches = _recognise(desired, batches, standing, judging)
        judged = judging(batches)
        trusted = recorded.result()
    state = _output_state(output, trusted, lockfile, pins, judged, spec.job.output.path)
    if state is OutputState.GOOD and any(known.index is not None and known.index.summary.empty for known in batches):
        state = OutputState.STALE if takes_nothing_for_an_answer(output, spec.job.output) else state
    apart_recorded = line is not None and context.errors_recorded(spec, line)
    if state is OutputState.GOOD and not apart_recorded:
        state = OutputState.ERRORS
    if not (trusted and apart_recorded):
        check_ownership(context, desired, names, {known.line.batch for known in batches})
    fate = fate_apart = OverwritePolicy.REPLACE
    if state is not OutputState.GOOD:
        fate = policy_for_output(output, line if trusted else None, batches, own, judged.tally.unknown)
    if state is OutputState.UNRECORDED and fate is OverwritePolicy.REPLACE and is_somebodys_own(output):
        fate = OverwritePolicy.BACK_UP
    if state is not OutputState.GOOD and apart is not None:
        said = line.errors if line is not None and line.errors and line.errors.path == spec.job.output.errors else None
        fate_apart = policy_for_errors_file(apart, said, batches, standing, recorded=apart_recorded)
    shards = _measure(desired, judged)
    view = JobFacts(
        address=spec.address,
        realm=realm.name,
        output=context.places.shown(output),
        tally=judged.tally,
        batches=[_view(known, standing) for known in batches],
        shards=shards,
        output_state=state,
        pins=pins,
        pinned=lockfile.pins_of(spec.address),
        tolerated=allowed(spec.job.tolerate, judged.tally.requests),
        notes=[
            *_notes(context, batches, standing, judged),
            *_refused(batches, len(shards) if judged.tally.missing else 0),
            *(_other_realms(lockfile, names, realm.name) if judged.tally.missing and not batches else ()),
            *fate.notes(context.places.shown(output)),
            *(() if apart is None else fate_apart.notes(context.places.shown(apart))),
        ],
        failures=list(reasons(desired, batches, realm.shards, context.places.shown(realm.shards))),
        rows=_changes(desired, lockfile, pins, output, trusted=trusted)
        if judged.tally.missing or state is OutputState.STALE
        else None,
        held=fate is OverwritePolicy.REFUSE,
        output_before="" if line is not None else _output_before(lockfile, names),
    )
    sizes = frozenset(shard.requests for shard in view.shards)
    proof = prove(context, spec, batches, standing, judged.used, api)
    plan = with_proof(plan_job(view), proof.unknown, proof.unproven)
    plan = without_new(plan) if word.no_new else plan
    return Observed(desired, realm, lockfile, batches, standing, judged, state, fate, fate_apart, plan, sizes)


def job_lockfile(context: Context, spec: JobSpec) -> Lockfile:
    """Return a job's lockfile, with the rename that the spec declares. Raises LockfileError."""
    lockfile = context.lockfile(spec.lock_path)
    if spec.moved_from and spec.moved_from not in lockfile.aliases(spec.address):
        lockfile = lockfile.with_moved(spec.address, spec.moved_from)
    return lockfile


def _needs_older_outputs(known: BatchRecord, own: dict[str, OutputAnswers]) -> bool:
    """Return whether answers of an ended batch are missing here, so that an older output may have them."""
    return known.ended and (known.results is ResultState.INCOMPLETE or not is_read(known, own))


def _output_before(lockfile: Lockfile, names: Collection[str]) -> str:
    return min((line.output for line in lockfile.outputs.values() if line.job in names), default="")


def _changes(desired: Desired, lockfile: Lockfile, pins: PinsLine, output: Path, *, trusted: bool) -> RowChanges | None:
    """Rows since the output was written, where it is the one of the pins that these differ from."""
    line = lockfile.outputs.get(desired.spec.job.output.path)
    old = lockfile.pins.get(line.pins) if line is not None and line.pins else lockfile.pins_of(pins.job)
    if not trusted or old is None or line is None or old.input_digest == pins.input_digest:
        return None
    return row_changes(desired, output, line.rows)


def _recognise(
    desired: Desired,
    batches: tuple[BatchRecord, ...],
    standing: dict[str, OutputAnswers],
    judging: partial[Classification],
) -> tuple[BatchRecord, ...]:
    """Batches whose shard is not in the store, known again where the same shard is rendered here.

    It is looked for where it matters: of batches in flight, and of ended ones that left requests unanswered.
    """
    strange = {
        known.line.batch: known.line.shard
        for known in batches
        if known.keys is None and known.line.shard and leaves_open(known, standing)
    }
    if not strange:
        return batches
    found: dict[str, SortedFile] = {}
    wanted = set(strange.values())
    # As it was before they went out; and from the very first, where some of what they held is answered by now.
    for others in ([known for known in batches if known.line.batch not in strange], []):
        judged = judging(others)
        for number, _ in judged.tally.submit:
            for shard in cut(desired.spool, desired.spec.job.shards, partial(wanted_round, number), None):
                if shard.digest in wanted and shard.digest not in found:
                    path = desired.spool.folder / f"{shard.digest}.keys.npy"
                    np.save(path, shard.keys)
                    found[shard.digest] = SortedFile.open(path, KEY)
        if found.keys() >= wanted:
            break
    return tuple(
        replace(known, keys=found.get(strange[known.line.batch])) if known.line.batch in strange else known
        for known in batches
    )


def _measure(desired: Desired, judged: Classification) -> list[ShardSize]:
    sizes = []
    for number, _ in judged.tally.submit:
        shards = measure(desired.spool, desired.spec.job.shards, partial(wanted_round, number))
        sizes += [ShardSize(number, requests, size) for requests, size in shards]
    return sizes


def _view(known: BatchRecord, standing: dict[str, OutputAnswers]) -> BatchFacts:
    return BatchFacts(
        batch=known.line.batch,
        requests=known.line.requests,
        ended=known.ended,
        indexed=is_indexed(known, standing),
        keys_known=known.keys is not None,
        adopted=known.adopted,
        state=known.state,
        answers=known.completed or 0,
        kept_until=_date(known),
        recorded=known.line.ended,
    )


def _date(known: BatchRecord) -> str:
    until = known.kept_until
    return f"{until:%Y-%m-%d}" if until is not None else ""


def _is_recorded(output: Path, lockfile: Lockfile, path: str) -> bool:
    line = lockfile.outputs.get(path)
    return line is not None and output.is_file() and sha256_file(output) == line.digest


def _output_state(
    output: Path, trusted: bool, lockfile: Lockfile, pins: PinsLine, judged: Classification, path: str
) -> OutputState:
    line = lockfile.outputs.get(path)
    if not output.is_file():
        return OutputState.MISSING
    if line is None:
        return OutputState.UNRECORDED
    if not trusted:
        return OutputState.FOREIGN
    current = lockfile.current.get(pins.job) == pins.pins and line.pins in {None, pins.pins}
    same = current and set(line.batches) == judged.used
    return OutputState.GOOD if same else OutputState.STALE


def _refused(batches: Sequence[BatchRecord], shards: int) -> Iterator[str]:
    """What was refused because the account's queue was full, while it is still to be submitted."""
    refused = sum(known.refused for known in batches)
    if refused and shards:
        yield (
            f"the service's queue was full for {counted(refused, 'batch', 'batches')}: nothing was billed; "
            f"up to {most_refusals(shards):,} creates may be refused before they are accepted"
        )


def _other_realms(lockfile: Lockfile, names: Collection[str], realm: str) -> Iterator[str]:
    others = {line.realm for line in lockfile.batches.values() if line.job in names and line.realm != realm}
    if others:
        yield f"the lockfile has batches of {', '.join(sorted(others)[:3])}; no answer of theirs is used in {realm}"


def _notes(
    context: Context, batches: Sequence[BatchRecord], standing: dict[str, OutputAnswers], judged: Classification
) -> list[str]:
    notes: list[str] = []
    for known in batches:
        if known.index is None:
            if known.line.batch in judged.used and known.line.batch in standing:
                until = f"; the service keeps its results until {_date(known)} at least" if _date(known) else ""
                files = " and ".join(map(context.places.shown, standing[known.line.batch].outputs))
                notes.append(f"answers of batch {known.line.batch} are read from {files}{until}")
            continue
        summary = known.index.summary
        missing = (known.completed or 0) - summary.delivered
        if missing > 0:
            notes.append(f"batch {known.line.batch} counts {known.completed} answers and delivered {summary.delivered}")
        elif known.results is ResultState.INCOMPLETE and known.line.counts is not None:
            notes.append(
                f"batch {known.line.batch} counts {known.line.counts.failed} failed requests and delivered "
                f"{summary.failures - summary.empty} lines that say why"
            )
        notes += line_notes(known.line.batch, summary)
        for count, what in ((summary.unknown, "of unknown requests"), (summary.malformed, "that can't be read")):
            if count:
                notes.append(
                    f"batch {known.line.batch} delivered {count} result lines {what}; they are kept and ignored"
                )
    return notes
