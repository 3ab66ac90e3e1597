"""The facts and notes of one job's plan. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from runner.base.humanize import counted
from runner.jobspec.budget_options import allowed
from runner.jobspec.loader import JobSpec
from runner.outputs.line_notes import line_notes
from runner.outputs.reader import OutputAnswers
from runner.reconciler.observe.batches import BatchRecord, ResultState
from runner.reconciler.observe.key_facts import is_indexed
from runner.reconciler.plan.classify_job import Classification
from runner.reconciler.plan.overwrite import OutputFiles, OverwritePolicy
from runner.reconciler.plan.plan import BatchFacts, JobFacts, OutputState, ShardSize
from runner.reconciler.plan.plan_limits import most_refusals
from runner.reconciler.plan.reasons import RowChanges
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import PinsLine

Shown = Callable[[Path], str]
"""Turns a path into displayed text."""


def job_facts(
    *,
    spec: JobSpec,
    realm: str,
    lockfile: Lockfile,
    pins: PinsLine,
    files: OutputFiles,
    batches: Sequence[BatchRecord],
    from_outputs: Mapping[str, OutputAnswers],
    classification: Classification,
    shards: Sequence[ShardSize],
    output_state: OutputState,
    policies: tuple[OverwritePolicy, OverwritePolicy],
    failures: Sequence[str],
    rows: RowChanges | None,
    shown: Shown,
) -> JobFacts:
    """Return an observed job's facts."""
    names, tally = lockfile.aliases(spec.address), classification.tally
    return JobFacts(
        address=spec.address,
        realm=realm,
        output=shown(files.path),
        tally=tally,
        batches=[_batch_facts(known, from_outputs) for known in batches],
        shards=shards,
        output_state=output_state,
        pins=pins,
        pinned=lockfile.pins_of(spec.address),
        tolerated=allowed(spec.job.tolerate, tally.requests),
        notes=[
            *_result_notes(batches, from_outputs, classification, shown),
            *_queue_notes(batches, len(shards) if tally.missing else 0),
            *(_realm_notes(lockfile, names, realm) if tally.missing and not batches else ()),
            *policies[0].notes(shown(files.path)),
            *(() if files.errors is None else policies[1].notes(shown(files.errors))),
        ],
        failures=failures,
        rows=rows,
        held=policies[0] is OverwritePolicy.REFUSE,
        output_before="" if files.line is not None else _output_before(lockfile, names),
    )


def _output_before(lockfile: Lockfile, names: Collection[str]) -> str:
    return min((line.output for line in lockfile.outputs.values() if line.job in names), default="")


def _batch_facts(known: BatchRecord, from_outputs: Mapping[str, OutputAnswers]) -> BatchFacts:
    return BatchFacts(
        batch=known.line.batch,
        requests=known.line.requests,
        ended=known.ended,
        indexed=is_indexed(known, from_outputs),
        keys_known=known.keys is not None,
        adopted=known.adopted,
        state=known.state,
        answers=known.completed or 0,
        kept_until=_kept_until(known),
        recorded=known.line.ended,
    )


def _kept_until(known: BatchRecord) -> str:
    until = known.kept_until
    return f"{until:%Y-%m-%d}" if until is not None else ""


def _queue_notes(batches: Sequence[BatchRecord], shards: int) -> Iterator[str]:
    refused = sum(known.refused for known in batches)
    if refused and shards:
        yield (
            f"the service's queue was full for {counted(refused, 'batch', 'batches')}: nothing was billed; "
            f"up to {most_refusals(shards):,} creates may be refused before they are accepted"
        )


def _realm_notes(lockfile: Lockfile, names: Collection[str], realm: str) -> Iterator[str]:
    others = {line.realm for line in lockfile.batches.values() if line.job in names and line.realm != realm}
    if others:
        yield f"the lockfile has batches of {', '.join(sorted(others)[:3])}; no answer of theirs is used in {realm}"


def _result_notes(
    batches: Sequence[BatchRecord],
    from_outputs: Mapping[str, OutputAnswers],
    classification: Classification,
    shown: Shown,
) -> list[str]:
    notes: list[str] = []
    for known in batches:
        if known.index is None:
            if known.line.batch in classification.used and known.line.batch in from_outputs:
                day = _kept_until(known)
                until = f"; the service keeps its results until {day} at least" if day else ""
                files = " and ".join(map(shown, from_outputs[known.line.batch].outputs))
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
