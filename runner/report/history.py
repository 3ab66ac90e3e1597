"""What git says of a job: the commits in which its lines of the lockfile changed, and what changed in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from runner.errors import LockfileError
from runner.reconciler.lockfile import BatchLine, Lockfile, parse
from runner.reconciler.reasons import why_new
from runner.report.git import Commit, Git

LIMIT = 1_000
"""Commits of a lockfile that are looked at, newest first."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of a job's history, or what is not committed yet (`commit` None).

    `changed` says what changed in what is asked, empty where nothing did. Batches are those that were added, and those
    that ended, in this commit. `cost` is USD of those that ended; None where none of them has one.
    """

    commit: Commit | None
    model: str
    changed: str
    submitted: tuple[BatchLine, ...]
    ended: tuple[BatchLine, ...]
    rows: int | None
    trouble: str = ""

    @property
    def cost(self) -> Decimal | None:
        """USD of the batches that ended here, as recorded."""
        known = [Decimal(str(batch.cost)) for batch in self.ended if batch.cost is not None]
        return sum(known, Decimal(0)) if known else None


def history(folder: Path, lock_path: str, project: str, address: str, limit: int = LIMIT) -> tuple[Entry, ...]:
    """A job's entries, newest first. `folder` is the project's; raises BatchspecError outside git."""
    git = Git(folder)
    commits = git.commits(lock_path, limit + 1)
    versions: list[tuple[Commit | None, bytes]] = [
        (commit, git.read(commit.hash, lock_path) or b"") for commit in reversed(commits)
    ]
    file = folder / lock_path
    here = file.read_bytes() if file.is_file() else b""
    if not versions or here != versions[-1][1]:
        versions.append((None, here))
    entries: list[Entry] = []
    before = Lockfile(project)
    for position, (commit, data) in enumerate(versions):
        where = f"{lock_path} at {commit.hash[:10]}" if commit else lock_path
        try:
            after = parse(data, where, project)
        except LockfileError as error:
            entries.append(Entry(commit, "", "", (), (), None, error.message))
            continue
        if position or len(commits) <= limit:
            entry = _entry(commit, before, after, address)
            if entry is not None:
                entries.append(entry)
        before = after
    return tuple(reversed(entries))


def _entry(commit: Commit | None, before: Lockfile, after: Lockfile, address: str) -> Entry | None:
    old, new = before.pins_of(address), after.pins_of(address)
    submitted = _lines(b for b in after.batches.values() if b.job == address and b.batch not in before.batches)
    ended = _lines(
        b
        for b in after.batches.values()
        if b.job == address and b.ended and not (b.batch in before.batches and before.batches[b.batch].ended)
    )
    outputs = [o for o in after.outputs.values() if o.job == address and before.outputs.get(o.output) != o]
    changed = why_new(old, new) if new is not None and (old is None or old.pins != new.pins) else ""
    if not (submitted or ended or outputs or changed):
        return None
    rows = sum(output.rows for output in outputs) if outputs else None
    return Entry(commit, new.model if new else "", changed, submitted, ended, rows)


def _lines(batches: Iterable[BatchLine]) -> tuple[BatchLine, ...]:
    return tuple(sorted(batches, key=lambda batch: (batch.created_at, batch.batch)))
