"""Download and index an ended batch's results.

Keep every line; count and skip duplicate, unknown and malformed ones. The store never ends up with fewer answers.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from runner.context import Context, Profile
from runner.errors import Malformed, NotFound, NotReady, ProviderError, RateLimited, ServerError, Unreachable
from runner.outputs.index import index, restore, restore_locked
from runner.providers.protocol import BatchApi, BatchError, Progress, RemoteBatch
from runner.reconciler.observe.consistency import results_settled
from runner.state.atomic import sync_file
from runner.state.results import CustomIdMap, Entries, ResultIndex, ResultStore, Summary


class NotVisibleYet(NotReady):
    """A recently ended batch's results may still appear."""


def fetch_batch(
    context: Context,
    profile: Profile,
    store: ResultStore,
    batch: RemoteBatch,
    mapping: CustomIdMap,
    progress: Progress | None = None,
    reading: Progress | None = None,
    *,
    ended_by: datetime | None,
    gone_before: bool = False,
) -> ResultIndex:
    """Fetch results, and decide whether missing ones are gone for good.

    ended_by: latest time of its end. Raises NotFound if gone, else NotVisibleYet.
    """
    settled = gone_before or results_settled(profile.kind, batch, ended_by, context.now())
    try:
        return fetch(context.api_of(profile), store, batch, mapping, progress, reading, settled=settled)
    except NotFound as error:
        if settled:
            raise
        raise NotVisibleYet(error.message, status=error.status, error_id=error.error_id) from error


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
    """Download and index results. A batch without answers gives an empty index.

    If lines are missing, download once more from new URLs and keep the lines of both downloads. `settled`: all results
    must be visible by now. `progress` and `reading` get bytes.

    Raises NotFound if results are missing, NotReady, or ProviderError.
    """
    if not batch.ended:
        raise NotReady(f"batch {batch.batch_id} is {batch.status}", status=200)
    counted = batch.counts.completed + batch.counts.failed
    if store.load(batch.batch_id) is None:
        stored = restore(store, batch.batch_id, mapping, _errors(batch), reading)
        if stored is not None and stored.summary.lines >= counted > 0:
            return stored
    once = partial(_fetch_once, api, store, batch, mapping, progress, reading, settled=settled)
    found = once()
    if found.summary.lines >= counted:
        return found
    try:
        return once()
    except (Unreachable, ServerError, RateLimited):
        raise
    except ProviderError:
        return found


def _fetch_once(
    api: BatchApi,
    store: ResultStore,
    batch: RemoteBatch,
    mapping: CustomIdMap,
    progress: Progress | None,
    reading: Progress | None,
    *,
    settled: bool,
) -> ResultIndex:
    """Replace stored results only if that loses nothing."""
    with store.staging(batch.batch_id) as staged:
        whole = _download(api, batch, staged, progress, settled=settled)
        files, errors = (*staged, store.rows(batch.batch_id)), _errors(batch)
        entries, summary = index(files, mapping, errors, reading)
        with store.locked(batch.batch_id):
            stored = restore_locked(store, batch.batch_id, mapping, errors)
            if stored is not None and _carry_over(stored, entries, staged):
                entries, summary = index(files, mapping, errors, reading)
            summary = replace(summary, partial=not whole)
            if stored is not None and _completeness(stored.summary) >= _completeness(summary):
                return stored  # other processes may be reading it
            return store.commit_download(batch.batch_id, staged, entries, summary)


def _carry_over(stored: ResultIndex, entries: Entries, fresh: tuple[Path, Path]) -> bool:
    old = stored.entries.all()
    new = entries[entries["file"] < len(fresh)]
    downloaded = np.where(
        old["code"] == 0, np.isin(old["key"], new["key"][new["code"] == 0]), np.isin(old["key"], new["key"])
    )
    for number, path in enumerate(fresh):
        missing = old[~downloaded & (old["file"] == number)]
        if not len(missing):
            continue
        with stored.files[number].open("rb") as source, path.open("ab+") as target:
            if target.tell():
                target.seek(-1, os.SEEK_END)
                target.write(b"" if target.read(1) == b"\n" else b"\n")
            for line in np.sort(missing, order="offset"):
                source.seek(int(line["offset"]))
                target.write(source.read(int(line["length"])) + b"\n")
        sync_file(path)
    return bool((~downloaded & (old["file"] < len(fresh))).any())


def _completeness(summary: Summary) -> tuple[int, int, bool]:
    return summary.answers, summary.failures, not summary.partial


def _download(
    api: BatchApi, batch: RemoteBatch, files: tuple[Path, Path], progress: Progress | None, *, settled: bool
) -> bool:
    counts = batch.counts
    try:
        urls = api.results(batch.batch_id)
    except (NotReady, NotFound):
        # Counts may lag behind in a batch that has just ended, as its results do. A batch that failed before its
        # requests were counted failed because of its file.
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
            api.download(url, path, progress, partial(_new_url, api, batch, name))
        except NotFound:
            all_came = 0 < counts.total <= counts.completed
            if name == "output_url" or urls.output_url is None or not (settled or all_came):
                raise
            path.unlink(missing_ok=True)
            return not counts.failed  # services name an error file that was never written because nothing failed
        sync_file(path)
    return True


def _new_url(api: BatchApi, batch: RemoteBatch, name: str) -> str:
    url: str | None = getattr(api.results(batch.batch_id), name)
    if url is None:
        raise Malformed(f"the service no longer returns the {name} of batch {batch.batch_id} that it returned before")
    return url


def _errors(batch: RemoteBatch) -> tuple[BatchError, ...]:
    return batch.errors if batch.status == "failed" else ()
