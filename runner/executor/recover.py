"""Answers that stand in an output alone are brought into the store before the output is rewritten.

Results can go: the store was thrown away, and the service keeps them for some weeks only. A trusted output then holds
the last copy. Its rows are kept beside the raw results of their batch, as rows, and are read from there. One that
leaves out what is needed for that is not overwritten with less.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from runner.context import Context
from runner.errors import StoreError
from runner.outputs.result_lines import INVALID
from runner.reconciler.observe.batches import ResultState
from runner.reconciler.plan.overwrite import OverwritePolicy
from runner.state.atomic import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

    from runner.jobspec.loader import JobSpec
    from runner.outputs.reader import OutputAnswers
    from runner.reconciler.observe.observe import Observed
    from runner.state.results import Entries, ResultIndex, ResultStore


def recover_answers(context: Context, spec: JobSpec, seen: Observed, done: set[str]) -> bool:
    """Keep what an output alone holds. True where answers can be read now that could not before.

    `done` are the batches that this has been done for, each once in an apply.

    A trusted output's answers go into the store by batch. What can't be read back from it is copied aside, and that is
    told. Raises StoreError where rows would be written without the answers that stand in them.
    """
    path = context.places.output(spec.job.output.path)
    salvaged = False
    for known in seen.batches:
        batch = known.line.batch
        answers = seen.standing.get(batch)
        if answers is None or batch in done or known.results is ResultState.PRESENT:
            continue
        rows = _missing(answers, known.index)
        if not len(rows):
            continue
        done.add(batch)
        salvaged = True
        _keep(seen.realm.results, batch, rows, answers.lines)
        context.watcher.event("answers.salvaged", job=spec.address, batch=batch, answers=len(rows))
    if salvaged:
        return True
    if seen.fate is OverwritePolicy.REFUSE:
        raise StoreError(
            f"{context.places.shown(path)} was not rewritten: answers to up to "
            f"{seen.judged.tally.unknown:,} requests stand in it alone, without the fields to read them back",
            hint=f"`--ask-unknown {spec.address}` asks them again; where the file is moved away, it is written anew "
            "without them; an output with error, request and batch among its fields can stand in for lost results",
        )
    if seen.fate is OverwritePolicy.BACK_UP:
        _copy_aside(context, seen.realm.results, path)
    if seen.fate_apart is OverwritePolicy.BACK_UP and spec.job.output.errors is not None:
        _copy_aside(context, seen.realm.results, context.places.output(spec.job.output.errors))
    return False


def _copy_aside(context: Context, store: ResultStore, path: Path) -> None:
    kept = store.folder.parent / "kept" / f"{path.name}-{context.now():%Y%m%dT%H%M%S%f}"
    with atomic_write(kept) as copy, path.open("rb") as old:
        shutil.copyfileobj(old, copy, 1 << 20)
    context.watcher.event("output.kept", path=context.places.shown(kept))


def _missing(answers: OutputAnswers, index: ResultIndex | None) -> Entries:
    """The rows of an output that the results of their batch, where there are any, hold no answer to."""
    rows = answers.entries.all()
    if index is None:
        return rows
    held = index.entries.all()
    invalid = [number for number, code in enumerate(answers.codes, 1) if code == INVALID]
    answered = np.isin(rows["code"], [0, *invalid])
    return rows[answered & ~np.isin(rows["key"], held["key"][held["code"] == 0])]


def _keep(store: ResultStore, batch: str, rows: Entries, lines: Path) -> None:
    """Put rows of an output beside a batch's results, behind those that are there; an index of all is then made."""
    with store.locked(batch), atomic_write(store.rows(batch)) as file, lines.open("rb") as source:
        if store.rows(batch).exists():
            file.write(store.rows(batch).read_bytes())
        for row in rows:
            source.seek(int(row["offset"]))
            file.write(source.read(int(row["length"])) + b"\n")
    store.forget_index(batch)
