"""Verify: that rendering again gives what the lockfile says, and that each row of an output holds the recorded answer.

Reads files only; the service is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import orjson

from runner.digest import sha256_file
from runner.executor.context import Context, Silent
from runner.executor.observe import Word, observe
from runner.executor.run import Prepared
from runner.executor.write import write_output
from runner.reconciler.lockfile import Lockfile, OutputLine, PinsLine
from runner.reconciler.reasons import why_new


@dataclass(frozen=True, slots=True)
class Verified:
    """What holds and what does not, in sentences; all is well where `wrong` is empty."""

    address: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


def verify(context: Context, job: Prepared) -> Verified:
    """Verify one rendered job. Raises LockfileError and StoreError."""
    spec = job.desired.spec
    lockfile = context.lockfile(spec.lock_path)
    pinned = lockfile.pins_of(spec.address)
    realm = context.realm(spec)
    if pinned is None and not lockfile.of(spec.address, realm.name):
        return Verified(spec.address, (), (f"{spec.lock_path} records nothing of this job: it was never applied",))
    right: list[str] = []
    wrong: list[str] = []
    if pinned is None:
        wrong.append(f"{spec.lock_path} has no pins for this job, as where branches differ (`apply` sets them)")
    else:
        _compare(wrong if pinned.requests != job.pins.requests else right, pinned, job.pins)
    for line in lockfile.of(spec.address, realm.name):
        for path, name in zip(realm.results.raw(line.batch), ("output", "errors"), strict=True):
            if name in line.results and path.exists() and sha256_file(path) != line.results[name]:
                wrong.append(f"{context.places.shown(path)} is not what batch {line.batch} delivered")
    _output(context, job, lockfile, right, wrong)
    return Verified(spec.address, tuple(right), tuple(wrong))


def _output(context: Context, job: Prepared, lockfile: Lockfile, right: list[str], wrong: list[str]) -> None:
    spec = job.desired.spec
    line = lockfile.outputs.get(spec.job.output.path)
    path = context.places.output(spec.job.output.path)
    shown = context.places.shown(path)
    if line is None:
        wrong.append(f"{spec.lock_path} has no line for {spec.job.output.path}")
    elif not path.is_file():
        wrong.append(f"{shown} is not there")
    elif sha256_file(path) != line.digest:
        wrong.append(f"{shown} is not what the lockfile says{_first_difference(context, job, lockfile, line, path)}")
    else:
        right.append(f"{shown}: {line.rows:,} rows, as recorded")
    if line is not None and spec.job.output.errors is not None:
        beside = context.places.shown(context.places.output(spec.job.output.errors))
        if context.errors_recorded(spec, line) and line.errors is not None:
            right.append(f"{beside}: {line.errors.rows:,} failed rows, as recorded")
        else:
            wrong.append(f"{beside} is not what the lockfile says (`apply` writes it again)")


def _compare(into: list[str], old: PinsLine, new: PinsLine) -> None:
    if old.requests == new.requests:
        into.append(f"{new.rows:,} rows render to the recorded requests")
    else:
        into.append(f"the requests are not the recorded ones: {why_new(old, new)}")


def _first_difference(context: Context, job: Prepared, lockfile: Lockfile, line: OutputLine, path: Path) -> str:
    """Where an output departs from what its answers say, as far as those can be read here; with what to do."""
    realm = context.realm(job.desired.spec)
    here = {batch for batch in line.batches if realm.results.load(batch) is not None}
    expected = job.desired.spool.folder / "expected"
    lines = lockfile.of(job.desired.spec.address, realm.name)
    if here != set(line.batches) or not lines:
        return (
            "; the answers it was written from are not in the store, so the row can't be named (`apply` fetches them)"
        )
    seen = observe(context, job.desired, job.pins, (), None, None, Word())
    write_output(expected, job.desired, seen.judged, Silent(), batches=lockfile.batches)
    for number, (have, want) in enumerate(zip_longest(_lines(path), _lines(expected)), 1):
        if have != want:
            return f"; the first row that differs is line {number}: {_difference(have, want)}"
    return "; its rows are what the answers say now, so the lockfile's line is an older one (`apply` renews it)"


def _difference(have: bytes | None, want: bytes | None) -> str:
    if have is None:
        return f"row {_identity(want)} is missing"
    if want is None:
        return "it is a row too many"
    try:
        old, new = orjson.loads(have), orjson.loads(want)
        fields = [name for name in new if old.get(name) != new[name]] + [name for name in old if name not in new]
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        return f"row {_identity(want)} is not readable"
    return f"row {_identity(want)}: {', '.join(fields)}" if fields else f"row {_identity(want)}: only its spelling"


def _identity(line: bytes | None) -> str:
    return str(orjson.loads(line).get("id")) if line else "?"


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file
