"""Answers that stand in an output alone are brought into the store before the output is rewritten.

Results can go: the store was thrown away, and the service keeps them for some weeks only. A trusted output then holds
the last copy. Its rows are kept beside the raw results of their batch, as rows, and are read from there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from runner.executor.context import Context
from runner.store.files import replacing, sync_folder
from runner.store.index import Summary

if TYPE_CHECKING:
    from runner.executor.judge import OutputAnswers
    from runner.executor.observe import Observed
    from runner.spec.load import JobSpec
    from runner.store.index import ResultStore


def salvage(context: Context, spec: JobSpec, seen: Observed) -> bool:
    """Keep what an output alone holds. True where batches can be read now that could not before.

    A trusted output's answers go into the store by batch. Of one that is not what the lockfile says nothing is
    believed; where it holds answers of batches that are not in the store it is copied aside, and that is told.
    """
    path = context.places.output(spec.job.output.path)
    unread = {known.line.batch for known in seen.batches if known.index is None}
    found = [(batch, answers) for batch, answers in seen.standing.items() if batch in unread]
    for batch, answers in found:
        _keep(seen.realm.results, batch, path, answers)
        context.watcher.event("answers.salvaged", job=spec.address, batch=batch, answers=answers.answered)
    if found or not path.is_file():
        return bool(found)
    here = {known.line.batch for known in seen.batches if known.index is not None}
    line = seen.lockfile.outputs.get(spec.job.output.path)
    # A file that can't be read back (csv, packed, fields left out) may hold the last copy too.
    unreadable = seen.trusted and line is not None and not here.issuperset(line.batches)
    if unreadable or (not seen.trusted and _may_be_the_last_copy(path, here)):
        kept = seen.realm.results.folder.parent / "kept" / f"{path.name}-{context.now():%Y%m%dT%H%M%S%f}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        sync_folder(kept.parent)
        context.watcher.event("output.kept", path=context.places.shown(kept))
    return False


def _may_be_the_last_copy(path: Path, here: Collection[str]) -> bool:
    """Whether a file that is not what the lockfile says may hold answers of batches that are not in the store.

    Asked of a row that lacks fields too, and of any file that is not plain JSON lines.
    """
    if path.suffix != ".jsonl":
        return True
    with path.open("rb") as lines:
        for line in lines:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            batch = row.get("batch") if isinstance(row, dict) else None
            if isinstance(batch, str) and batch not in here and not row.get("error"):
                return True
    return False


def _keep(store: ResultStore, batch: str, output: object, answers: OutputAnswers) -> None:
    """Copy a batch's rows out of an output, in the order of their keys, with an index."""
    entries = np.array(answers.entries)
    store.folder.mkdir(parents=True, exist_ok=True)
    source = os.open(str(output), os.O_RDONLY)
    try:
        with replacing(store.rows(batch)) as file:
            offset = 0
            for entry in entries:
                length = int(entry["length"])
                file.write(os.pread(source, length, int(entry["offset"])) + b"\n")
                entry["offset"] = offset
                offset += length + 1
    finally:
        os.close(source)
    failures = len(entries) - answers.answered
    summary = Summary(answers.answered, failures, 0, 0, 0, answers.codes, "", "", (), (0, 0, 0))
    store.save(batch, entries, summary)
