"""Answers that stand in an output alone are brought into the store before the output is rewritten.

Results can go: the store was thrown away, and the service keeps them for some weeks only. A trusted output then holds
the last copy. Its rows are kept beside the raw results of their batch, as rows, and are read from there. One that
leaves out what is needed for that is not overwritten with less.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from runner.errors import StoreError
from runner.executor.context import Context
from runner.executor.fate import Fate
from runner.store.files import replacing
from runner.store.index import Summary

if TYPE_CHECKING:
    from pathlib import Path

    from runner.executor.observe import Observed
    from runner.executor.standing import OutputAnswers
    from runner.spec.load import JobSpec
    from runner.store.index import ResultStore


def salvage(context: Context, spec: JobSpec, seen: Observed) -> bool:
    """Keep what an output alone holds. True where batches can be read now that could not before.

    A trusted output's answers go into the store by batch. What can't be read back from it is copied aside, and that is
    told. Raises StoreError where rows would be written without the answers that stand in them.
    """
    path = context.places.output(spec.job.output.path)
    unread = {known.line.batch for known in seen.batches if known.index is None}
    found = [(batch, answers) for batch, answers in seen.standing.items() if batch in unread]
    for batch, answers in found:
        _keep(seen.realm.results, batch, answers)
        context.watcher.event("answers.salvaged", job=spec.address, batch=batch, answers=answers.answered)
    if found:
        return True
    if seen.fate is Fate.HELD:
        raise StoreError(
            f"{context.places.shown(path)} was not rewritten: answers to up to "
            f"{seen.judged.tally.unknown:,} requests stand in it alone, without the fields to read them back",
            hint=f"`--ask-unknown {spec.address}` asks them again; where the file is moved away, it is written anew "
            "without them; an output with error, request and batch among its fields can stand in for lost results",
        )
    if seen.fate is Fate.COPIED:
        _copy_aside(context, seen.realm.results, path)
    if seen.fate_apart is Fate.COPIED and spec.job.output.errors is not None:
        _copy_aside(context, seen.realm.results, context.places.output(spec.job.output.errors))
    return False


def _copy_aside(context: Context, store: ResultStore, path: Path) -> None:
    kept = store.folder.parent / "kept" / f"{path.name}-{context.now():%Y%m%dT%H%M%S%f}"
    with replacing(kept) as copy, path.open("rb") as old:
        shutil.copyfileobj(old, copy, 1 << 20)
    context.watcher.event("output.kept", path=context.places.shown(kept))


def _keep(store: ResultStore, batch: str, answers: OutputAnswers) -> None:
    """Copy a batch's rows out of an output, in the order of their keys, with an index."""
    entries = answers.entries.all()
    store.folder.mkdir(parents=True, exist_ok=True)
    source = os.open(answers.lines, os.O_RDONLY)
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
