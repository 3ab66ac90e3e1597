"""A job's history: commits that changed its lockfile lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path

from runner.base.repository_paths import LOCKFILE_BYTES, read_inside
from runner.errors import LockfileError
from runner.reconciler.plan.idempotency import is_ours
from runner.reconciler.plan.reasons import why_new
from runner.report.git import Commit, Git
from runner.report.versions import Delta, LockfileVersions
from runner.state.lockfile_lines import BatchLine, OutputLine, PinsLine
from runner.state.lockfile_parser import parse

LIMIT = 1_000
"""Newest commits of a lockfile that are read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit, or the uncommitted changes (`commit` None).

    `changed` lists changes of the requests or the output.
    """

    commit: Commit | None
    model: str
    changed: str
    submitted: tuple[BatchLine, ...] = ()
    imported: tuple[BatchLine, ...] = ()
    ended: tuple[BatchLine, ...] = ()
    outputs: tuple[OutputLine, ...] = ()
    trouble: str = ""

    @property
    def rows(self) -> int | None:
        """Rows of the last output written here."""
        return self.outputs[-1].rows if self.outputs else None

    @property
    def cost(self) -> Decimal | None:
        """The recorded USD of batches that ended here; None if none has a cost."""
        known = [Decimal(str(batch.cost)) for batch in self.ended if batch.cost is not None]
        return sum(known, Decimal(0)) if known else None


def history(
    folder: Path, lock_path: str, project: str, addresses: Sequence[str], limit: int = LIMIT
) -> dict[str, tuple[Entry, ...]]:
    """Return the entries of jobs that share a lockfile, newest first, also under earlier names.

    Reads each version once. Raises BatchspecError outside git.
    """
    git = Git(folder)
    commits = git.commits(lock_path, limit + 1)
    here = read_inside(folder, lock_path, LOCKFILE_BYTES) if (folder / lock_path).is_file() else b""
    names = _names(git, commits, lock_path, project, here, addresses)
    owners: dict[str, list[str]] = {}
    for address in addresses:
        for name in names[address]:
            owners.setdefault(name, []).append(address)
    found: dict[str, list[Entry]] = {address: [] for address in addresses}
    pins: dict[str, PinsLine | None] = {}
    versions = LockfileVersions(project)
    for position, (commit, data) in enumerate(_versions(git, commits, lock_path, here)):
        try:
            delta = versions.advance(data, f"{lock_path} at {commit.hash[:10]}" if commit else lock_path)
        except LockfileError as error:
            for entries in found.values():
                entries.append(Entry(commit, "", "", trouble=error.message))
            continue
        changed = {address for job in delta.jobs for address in owners.get(job, ())}
        for address in sorted(changed):
            old = pins.get(address)
            new = pins[address] = next(filter(None, map(versions.now.pins_of, names[address])), None)
            if position or len(commits) <= limit:
                entry = _entry(commit, versions, delta, names[address], old, new)
                found[address] += [] if entry is None else [entry]
    return {address: tuple(reversed(entries)) for address, entries in found.items()}


def _versions(
    git: Git, commits: Sequence[Commit], lock_path: str, here: bytes
) -> Iterator[tuple[Commit | None, bytes]]:
    oldest_first = commits[::-1]
    last = None
    for commit, data in zip(
        oldest_first, git.versions([one.hash for one in oldest_first], lock_path, LOCKFILE_BYTES), strict=True
    ):
        last = data or b""
        yield commit, last
    if here != last:
        yield None, here


def _names(
    git: Git, commits: Sequence[Commit], lock_path: str, project: str, here: bytes, addresses: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    older = (git.read(commit.hash, lock_path) or b"" for commit in commits)
    for data in chain((here,), older):
        try:
            newest = parse(data, lock_path, project)
        except LockfileError:
            continue
        return {address: newest.aliases(address) for address in addresses}
    return {address: (address,) for address in addresses}


def _entry(
    commit: Commit | None,
    versions: LockfileVersions,
    delta: Delta,
    names: Sequence[str],
    old: PinsLine | None,
    new: PinsLine | None,
) -> Entry | None:
    batches = [pair for name in names for pair in delta.batches_of(name)]
    added = [after for before, after in batches if before is None]
    imported = [batch for batch in added if _is_imported(versions.project, names, batch)]
    ended = _lines(after for before, after in batches if after.ended and not (before is not None and before.ended))
    pairs = [pair for name in names for pair in delta.outputs_of(name)]
    outputs = [o for before, o in pairs if o is not None and o.job in names and before != o]
    # Outputs with the current pins come last.
    outputs.sort(key=lambda o: (new is not None and o.pins == new.pins, o.output))
    reasons = list(_changed(old, new)) if new is not None else []
    now = {path for name in names for path in versions.outputs_of(name)} - delta.outputs.keys()
    before_paths = {o.output for o, _ in pairs if o is not None and o.job in names}
    known = sorted(now | before_paths)
    come = sorted(o.output for o in outputs if o.output not in known)
    reasons += [f"the output moved from {', '.join(known)} to {', '.join(come)}"] if known and come else []
    if not reasons and new is not None and old is not None and old.pins != new.pins:
        reasons = ["the spec changed, but no request did"]
    if not (added or ended or outputs or reasons):
        return None
    submitted = _lines(batch for batch in added if batch not in imported)
    model, changed = new.model if new else "", "; ".join(reasons)
    return Entry(commit, model, changed, submitted, _lines(imported), ended, tuple(outputs))


def _changed(old: PinsLine | None, new: PinsLine) -> Iterator[str]:
    if old is not None and old.job != new.job:
        yield f"renamed: {old.job} to {new.job}"
    if old is None or old.requests != new.requests:
        yield why_new(old, new)


def _is_imported(project: str, names: Sequence[str], batch: BatchLine) -> bool:
    """Return whether a batch was imported: it has a file's size and a foreign key."""
    ours = any(is_ours(project, name, batch.request_id, {}) for name in names)
    return batch.pins is None and batch.bytes is not None and not ours


def _lines(batches: Iterable[BatchLine]) -> tuple[BatchLine, ...]:
    return tuple(sorted(batches, key=lambda batch: (batch.created_at, batch.batch)))
