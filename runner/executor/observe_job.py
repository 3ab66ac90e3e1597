"""Rebuild missing indexes of downloaded results, then observe one job."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from runner.context import Context, Realm
from runner.outputs.index import restore
from runner.planner.render import Desired
from runner.providers.protocol import BatchApi, RemoteBatch
from runner.reconciler.observe.batches import BatchRecord, collect_batches
from runner.reconciler.observe.observe import ApplyOptions, Observed, job_lockfile, observe
from runner.state.ledger import Create
from runner.state.lockfile_lines import PinsLine
from runner.state.results import CustomIdMap, safe_name


def observe_job(
    context: Context,
    desired: Desired,
    pins: PinsLine,
    creates: Sequence[Create],
    listed: Mapping[str, RemoteBatch] | None,
    api: BatchApi | None,
    options: ApplyOptions,
    gone: Collection[str] = (),
) -> Observed:
    """Observe a job with all downloaded results, and plan it. Raises BatchspecError.

    gone: batches that lost their results.
    """
    lockfile = job_lockfile(context, desired.spec)
    batches = collect_batches(context, desired.spec, lockfile, creates, listed, api)
    batches = rebuild_missing(context.realm(desired.spec), batches)
    return observe(context, desired, pins, lockfile, batches, api, options, gone)


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
