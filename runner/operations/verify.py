"""Verifies that rendering gives the recorded requests, and outputs have the recorded answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from runner.base.digest import sha256_file
from runner.base.humanize import counted
from runner.context import Context, NullWatcher
from runner.errors import StoreError
from runner.executor.observe_job import observe_job
from runner.executor.outcome import RenderedJob
from runner.outputs.reader import output_rows
from runner.outputs.writer import write_output
from runner.reconciler.observe.observe import ApplyOptions
from runner.reconciler.plan.reasons import why_new
from runner.state.lockfile import Lockfile
from runner.state.lockfile_lines import OutputLine, PinsLine


@dataclass(frozen=True, slots=True)
class Verified:
    """What matches and what does not, in sentences. Verified if `wrong` is empty."""

    address: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


def verify(context: Context, job: RenderedJob) -> Verified:
    """Verify one rendered job. Raises LockfileError and StoreError."""
    spec = job.desired.spec
    lockfile = context.lockfile(spec.lock_path)
    pinned = lockfile.pins_of(spec.address)
    realm = context.realm(spec)
    if pinned is None and not lockfile.batches_of(spec.address, realm.name):
        return Verified(spec.address, (), (f"{spec.lock_path} records nothing of this job: it was never applied",))
    right: list[str] = []
    wrong: list[str] = []
    if pinned is None:
        wrong.append(
            f"{spec.lock_path} has no pins for this job, for example because branches differ (`apply` sets them)"
        )
    elif job.waits is not None and job.waits.gone and job.restores:
        right.append(f"closed, and only its output was checked: {job.waits.reason}")
    elif job.waits is not None:
        wrong.append(f"its requests can't be rendered as they were: {job.waits.reason}")
    else:
        _compare(wrong if pinned.requests != job.pins.requests else right, pinned, job.pins)
    for line in lockfile.batches_of(spec.address, realm.name):
        for path, name in zip(realm.results.raw(line.batch), ("output", "errors"), strict=True):
            if name in line.results and path.exists() and sha256_file(path) != line.results[name]:
                wrong.append(f"{context.places.shown(path)} is not what batch {line.batch} delivered")
    _output(context, job, lockfile, right, wrong)
    return Verified(spec.address, tuple(right), tuple(wrong))


def _output(context: Context, job: RenderedJob, lockfile: Lockfile, right: list[str], wrong: list[str]) -> None:
    spec = job.desired.spec
    line = lockfile.outputs.get(spec.job.output.path)
    path = context.places.output(spec.job.output.path)
    shown = context.places.shown(path)
    if line is None:
        wrong.append(f"{spec.lock_path} has no line for {spec.job.output.path}")
    elif not path.is_file():
        wrong.append(f"{shown} is not there")
    elif sha256_file(path) != line.digest:
        wrong.append(f"{shown} differs from the lockfile{_first_difference(context, job, lockfile, line, path)}")
    else:
        right.append(f"{shown}: {counted(line.rows, 'row')}, as recorded")
    if line is not None and spec.job.output.errors is not None:
        errors_path = context.places.shown(context.places.output(spec.job.output.errors))
        if context.errors_recorded(spec, line) and line.errors is not None:
            right.append(f"{errors_path}: {counted(line.errors.rows, 'failed row')}, as recorded")
        else:
            place = context.places.output(spec.job.output.errors)
            where = _first_difference(context, job, lockfile, line, place, failed=True) if place.is_file() else ""
            wrong.append(f"{errors_path} differs from the lockfile{where} (`apply` rewrites it)")


def _compare(into: list[str], old: PinsLine, new: PinsLine) -> None:
    if old.requests == new.requests:
        into.append(f"the recorded requests are rendered from {counted(new.rows, 'row')}")
    else:
        into.append(f"the requests are not the recorded ones: {why_new(old, new)}")


def _first_difference(
    context: Context, job: RenderedJob, lockfile: Lockfile, line: OutputLine, path: Path, *, failed: bool = False
) -> str:
    if job.waits is not None:
        return ""
    realm = context.realm(job.desired.spec)
    here = {batch for batch in line.batches if realm.results.load(batch) is not None}
    expected = job.desired.spool.folder / f"expected-{path.name}"  # its suffix selects the compression
    lines = lockfile.batches_of(job.desired.spec.address, realm.name)
    if here != set(line.batches) or not lines:
        return (
            "; the answers it was written from are not in the store, so the row can't be named (`apply` fetches them)"
        )
    seen = observe_job(context, job, (), None, None, ApplyOptions())
    rest = expected.with_name(f"rest-{path.name}")
    main, errors = (rest, expected) if failed else (expected, rest)
    write_output(main, job.desired, seen.classification, NullWatcher(), batches=lockfile.batches, errors=errors)
    output = job.desired.spec.job.output
    if failed:
        output = output.model_copy(update={"path": output.errors, "format": "jsonl"})
    recorded = line.digest if not failed else line.errors.digest if line.errors is not None else ""
    place = "line" if output.kind == "jsonl" else "number"
    try:
        rows = zip_longest(output_rows(path, output), output_rows(expected, output), fillvalue=_MISSING)
        for number, (have, want) in enumerate(rows, 1):
            if have != want:
                return f"; the first row that differs is {place} {number}: {_difference(have, want)}"
    except StoreError as error:
        return f"; {error.message}"
    if sha256_file(expected) == recorded:
        return "; its rows are the recorded ones, written differently (`apply` rewrites it)"
    return "; its rows are what the answers say now, so the lockfile's line is an older one (`apply` renews it)"


_MISSING: Mapping[str, Any] = {}
"""Replaces a row after the end of a file."""


def _difference(have: Mapping[str, Any] | None, want: Mapping[str, Any] | None) -> str:
    if want is _MISSING or want is None:
        return "it is a row too many"
    if have is _MISSING:
        return f"row {_identity(want)} is missing"
    if have is None:
        return f"row {_identity(want)} is not readable"
    names = [*want, *(name for name in have if name not in want)]
    fields = [name for name in names if have.get(name, _MISSING) != want.get(name, _MISSING)]
    return f"row {_identity(want)}: {', '.join(fields) or 'the order of its fields'}"


def _identity(row: Mapping[str, Any]) -> str:
    return str(row.get("id", row.get("row", "?")))
