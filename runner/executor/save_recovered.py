"""Saves the answers of a partition without input and kept rows."""

from __future__ import annotations

from runner.base.digest import sha256_file
from runner.context import Context
from runner.errors import StoreError
from runner.jobspec.loader import JobSpec
from runner.outputs.recovered import SUFFIX, write_recovered
from runner.reconciler.observe.observe import Observed


def save_recovered(context: Context, spec: JobSpec, seen: Observed) -> str:
    """Write the answers of all batches next to the output, and record the file in the lockfile.

    Return its shown path; empty without results. Raises StoreError if another file is in its place.
    """
    indexes = {known.line.batch: known.index for known in seen.batches if known.index is not None}
    if not indexes:
        return ""
    name = spec.job.output.path + SUFFIX
    path = context.places.output(name)
    lockfile = context.lockfile(spec.lock_path)
    recorded = lockfile.outputs.get(name)
    if path.exists() and (recorded is None or sha256_file(path) != recorded.digest):
        raise StoreError(f"{context.places.shown(path)} is another file", hint="move it away and apply again")
    names = frozenset(lockfile.aliases(spec.address))
    count = sum(batch.job in names for batch in lockfile.batches.values())
    before = recorded if path.exists() else None
    line = write_recovered(path, name, spec.address, indexes, count, before)
    context.save_lockfile(spec.lock_path, lockfile.with_output(line))
    context.watcher.event("output.written", job=spec.address, path=context.places.shown(path), rows=line.rows)
    return context.places.shown(path)
