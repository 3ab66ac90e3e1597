"""Before a rewrite of the output, store answers that only it has.

The service keeps raw results for weeks only. Once they are lost, a trusted output is the last copy. Its rows are stored
next to the raw results.
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
    """Store answers that only a trusted output has. Return whether there were any.

    Raises StoreError if a rewrite would lose answers.
    """
    recovered = False
    for known in seen.batches:
        batch = known.line.batch
        answers = seen.from_outputs.get(batch)
        if answers is None or batch in done or known.results is ResultState.PRESENT:
            continue
        rows = _missing(answers, known.index)
        if not len(rows):
            continue
        done.add(batch)
        recovered = True
        _store_rows(seen.realm.results, batch, rows, answers.lines)
        context.watcher.event("answers.salvaged", job=spec.address, batch=batch, answers=len(rows))
    if not recovered:
        _protect_outputs(context, spec, seen)
    return recovered


def _protect_outputs(context: Context, spec: JobSpec, seen: Observed) -> None:
    path = context.places.output(spec.job.output.path)
    if seen.output_policy is OverwritePolicy.REFUSE:
        raise StoreError(
            f"not overwriting {context.places.shown(path)}: it holds the only copy of up to "
            f"{seen.classification.tally.unknown:,} answers, and lacks the fields needed to recover them",
            hint=f"to resubmit those requests: `--ask-unknown {spec.address}`. To discard the answers: move the file "
            "away and apply again. To avoid this: add `error`, `request` and `batch` to `output.include`",
        )
    if seen.output_policy is OverwritePolicy.BACK_UP:
        _back_up(context, seen.realm.results, path)
    if seen.errors_policy is OverwritePolicy.BACK_UP and spec.job.output.errors is not None:
        _back_up(context, seen.realm.results, context.places.output(spec.job.output.errors))


def _back_up(context: Context, store: ResultStore, path: Path) -> None:
    kept = store.folder.parent / "kept" / f"{path.name}-{context.now():%Y%m%dT%H%M%S%f}"
    with atomic_write(kept) as copy, path.open("rb") as old:
        shutil.copyfileobj(old, copy, 1 << 20)
    context.watcher.event("output.kept", path=context.places.shown(kept))


def _missing(answers: OutputAnswers, index: ResultIndex | None) -> Entries:
    rows = answers.entries.all()
    if index is None:
        return rows
    held = index.entries.all()
    invalid = [number for number, code in enumerate(answers.codes, 1) if code == INVALID]
    answered = np.isin(rows["code"], [0, *invalid])
    return rows[answered & ~np.isin(rows["key"], held["key"][held["code"] == 0])]


def _store_rows(store: ResultStore, batch: str, rows: Entries, lines: Path) -> None:
    """Append rows to a batch. Remove its index, to be rebuilt."""
    with store.locked(batch), atomic_write(store.rows(batch)) as file, lines.open("rb") as source:
        if store.rows(batch).exists():
            file.write(store.rows(batch).read_bytes())
        for row in rows:
            source.seek(int(row["offset"]))
            file.write(source.read(int(row["length"])) + b"\n")
    store.forget_index(batch)
