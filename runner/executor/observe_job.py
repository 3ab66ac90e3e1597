"""Rebuild missing indexes of downloaded results, then observe one job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from runner.context import Context, Realm
from runner.executor.outcome import RenderedJob
from runner.outputs.index import restore
from runner.providers.protocol import BatchApi, RemoteBatch
from runner.reconciler.observe.batches import BatchRecord, collect_batches
from runner.reconciler.observe.observe import ApplyOptions, Observed, job_lockfile, observe
from runner.reconciler.observe.strays import count_strays
from runner.reconciler.plan.partition_plan import restoring, waiting
from runner.reconciler.plan.partition_state import Waits, fixed_pins, same_question
from runner.state.ledger import Create
from runner.state.results import CustomIdMap, safe_name


def observe_job(
    context: Context,
    job: RenderedJob,
    creates: Sequence[Create],
    listed: Mapping[str, RemoteBatch] | None,
    api: BatchApi | None,
    options: ApplyOptions,
    gone: Collection[str] = (),
) -> Observed:
    """Observe a job with all downloaded results, and plan it. Raises BatchspecError.

    gone: batches that lost their results.
    """
    spec = job.desired.spec
    lockfile = job_lockfile(context, spec)
    batches = collect_batches(context, spec, lockfile, creates, listed, api)
    batches = rebuild_missing(context.realm(spec), batches)
    seen = observe(context, job.desired, job.pins, lockfile, batches, api, options, gone)
    if not spec.partition or options.reopen:
        return seen
    waits = job.waits or _why_it_waits(job, seen)
    if waits is not None:
        return replace(seen, plan=waiting(seen.plan, waits))
    return replace(seen, plan=restoring(seen.plan)) if job.restores else seen


def _why_it_waits(job: RenderedJob, seen: Observed) -> Waits | None:
    """Return why a partition can't go on with these requests: it has others by now. None if it can."""
    if not seen.batches:
        return None
    fixed = fixed_pins(seen.lockfile, job.desired.spec.address)
    if fixed is not None:
        if job.pins.requests == fixed.requests:
            return None
        if not same_question(job.pins, fixed):
            return Waits("another apply started it with another template or spec; apply again")
    strays = count_strays(job.desired.spool, seen.batches, seen.realm)
    return Waits(f"{strays:,} of its requests are no longer in its input", gone=True) if strays else None


def rebuild_missing(realm: Realm, batches: Sequence[BatchRecord]) -> tuple[BatchRecord, ...]:
    """Return the batches, each with an index if the store has its results. Raises StoreError.

    A process may die between download and index. Those files may be the only copy of paid answers.
    """
    if all(record.index is not None for record in batches):
        return tuple(batches)
    downloaded = realm.results.with_files()
    return tuple(
        _rebuilt(realm, record) if record.index is None and safe_name(record.line.batch) in downloaded else record
        for record in batches
    )


def _rebuilt(realm: Realm, record: BatchRecord) -> BatchRecord:
    batch, remote = record.line.batch, record.remote
    mapping = CustomIdMap(record.sent_keys(), realm.results.imported_ids(batch))
    errors = remote.errors if remote is not None and remote.status == "failed" else ()
    return replace(record, index=restore(realm.results, batch, mapping, errors))
