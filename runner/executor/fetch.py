"""Results of an ended batch: downloaded as the service sent them, then indexed by key.

Everything is kept, also what cannot be used; what is doubled, unknown or malformed is counted and passed over. What
lies in the store already is the least that there is afterwards.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from runner.errors import Malformed, NotFound, NotReady, ProviderError, RateLimited, ServerError, Unreachable
from runner.outputs.index import index, restore, restore_locked
from runner.providers.protocol import BatchApi, BatchError, Progress, RemoteBatch
from runner.state.atomic import sync_file
from runner.state.results import CustomIdMap, Entries, ResultIndex, ResultStore, Summary


def fetch(
    api: BatchApi,
    store: ResultStore,
    batch: RemoteBatch,
    mapping: CustomIdMap,
    progress: Progress | None = None,
    reading: Progress | None = None,
    *,
    settled: bool = True,
) -> ResultIndex:
    """Download and index the results of `batch`, which has ended; `settled` where that is some time ago.

    `progress` is told of bytes downloaded, `reading` of bytes indexed.

    What comes short of the counts of the service is downloaded once more, from new addresses; what came first and not
    again is kept. A batch that answered nothing has no results; that is an empty index. Raises NotFound
    where results there must be are gone, NotReady where the service does not say that it has ended, and ProviderError
    where they can't be read now.
    """
    if not batch.ended:
        raise NotReady(f"batch {batch.batch_id} is said to be {batch.status}", status=200)
    counted = batch.counts.completed + batch.counts.failed
    if store.load(batch.batch_id) is None:
        lying = restore(store, batch.batch_id, mapping, _errors(batch), reading)
        if lying is not None and lying.summary.lines >= counted > 0:
            return lying
    once = partial(_fetched, api, store, batch, mapping, progress, reading, settled=settled)
    found = once()
    if found.summary.lines >= counted:
        return found
    try:
        return once()
    except (Unreachable, ServerError, RateLimited):
        raise
    except ProviderError:
        return found


def _fetched(
    api: BatchApi,
    store: ResultStore,
    batch: RemoteBatch,
    mapping: CustomIdMap,
    progress: Progress | None,
    reading: Progress | None,
    *,
    settled: bool,
) -> ResultIndex:
    """Download and index results, beside what stands here already: nothing that came once is lost."""
    with store.staging(batch.batch_id) as staged:
        whole = _download(api, batch, staged, progress, settled=settled)
        files, errors = (*staged, store.rows(batch.batch_id)), _errors(batch)
        entries, summary = index(files, mapping, errors, reading)
        with store.locked(batch.batch_id):
            standing = restore_locked(store, batch.batch_id, mapping, errors)
            if standing is not None and _carry_over(standing, entries, staged):
                entries, summary = index(files, mapping, errors, reading)
            summary = replace(summary, partial=not whole)
            if standing is not None and _held(standing.summary) >= _held(summary):
                return standing  # others may be reading it
            return store.commit_download(batch.batch_id, staged, entries, summary)


def _carry_over(standing: ResultIndex, entries: Entries, fresh: tuple[Path, Path]) -> bool:
    """Write behind what came the lines that stand here and did not come again; whether there were any."""
    old = standing.entries.all()
    come = entries[entries["file"] < len(fresh)]
    again = np.where(
        old["code"] == 0, np.isin(old["key"], come["key"][come["code"] == 0]), np.isin(old["key"], come["key"])
    )
    for number, path in enumerate(fresh):
        missing = old[~again & (old["file"] == number)]
        if not len(missing):
            continue
        with standing.files[number].open("rb") as source, path.open("ab+") as target:
            if target.tell():
                target.seek(-1, os.SEEK_END)
                target.write(b"" if target.read(1) == b"\n" else b"\n")
            for line in np.sort(missing, order="offset"):
                source.seek(int(line["offset"]))
                target.write(source.read(int(line["length"])) + b"\n")
        sync_file(path)
    return bool((~again & (old["file"] < len(fresh))).any())


def _held(summary: Summary) -> tuple[int, int, bool]:
    return summary.answers, summary.failures, not summary.partial


def _download(
    api: BatchApi, batch: RemoteBatch, files: tuple[Path, Path], progress: Progress | None, *, settled: bool
) -> bool:
    """Download what there is; whether that is all that the service counts files for."""
    counts = batch.counts
    try:
        urls = api.results(batch.batch_id)
    except (NotReady, NotFound):
        # Of one that has just ended the counts may be behind, as its results are. One that never came so far as to be
        # counted has failed for what stands in its file.
        counted = 0 < counts.total <= counts.completed + counts.failed
        unchecked = batch.status == "failed" and not counts.total
        behind = not (settled or counted or unchecked)
        if counts.completed or batch.status == "completed" or behind:
            raise
        return True
    for name, path in zip(("output_url", "error_url"), files, strict=True):
        path.unlink(missing_ok=True)
        url = getattr(urls, name)
        if url is None:
            continue
        try:
            api.download(url, path, progress, partial(_renewed, api, batch, name))
        except NotFound:
            all_came = 0 < counts.total <= counts.completed
            if name == "output_url" or urls.output_url is None or not (settled or all_came):
                raise
            path.unlink(missing_ok=True)
            return not counts.failed  # a file may be named that was never written, since nothing failed
        sync_file(path)
    return True


def _renewed(api: BatchApi, batch: RemoteBatch, name: str) -> str:
    url: str | None = getattr(api.results(batch.batch_id), name)
    if url is None:
        raise Malformed(f"the service names a file of batch {batch.batch_id} no more that it named before")
    return url


def _errors(batch: RemoteBatch) -> tuple[BatchError, ...]:
    """Why a whole batch failed."""
    return batch.errors if batch.status == "failed" else ()
