"""What git says of a job: the commits in which its lines of the lockfile changed, and what changed in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    """A job's entries, newest first, also those under names it had before; `folder` is the project's.

    Raises BatchspecError outside git.
    """
    git = Git(folder)
    commits = git.commits(lock_path, limit + 1)
    versions: list[tuple[Commit | None, bytes]] = [
        (commit, git.read(commit.hash, lock_path) or b"") for commit in reversed(commits)
    ]
    file = folder / lock_path
    here = file.read_bytes() if file.is_file() else b""
    if not versions or here != versions[-1][1]:
        versions.append((None, here))
    parsed = [_parsed(commit, data, lock_path, project) for commit, data in versions]
    names = next((found.names(address) for found in reversed(parsed) if isinstance(found, Lockfile)), (address,))
    entries: list[Entry] = []
    before = Lockfile(project)
    for position, ((commit, _), after) in enumerate(zip(versions, parsed, strict=True)):
        if isinstance(after, LockfileError):
            entries.append(Entry(commit, "", "", (), (), None, after.message))
            continue
        if position or len(commits) <= limit:
            entry = _entry(commit, before, after, names)
            if entry is not None:
                entries.append(entry)
        before = after
    return tuple(reversed(entries))


def _parsed(commit: Commit | None, data: bytes, lock_path: str, project: str) -> Lockfile | LockfileError:
    try:
        return parse(data, f"{lock_path} at {commit.hash[:10]}" if commit else lock_path, project)
    except LockfileError as error:
        return error


def _entry(commit: Commit | None, before: Lockfile, after: Lockfile, names: Sequence[str]) -> Entry | None:
    old, new = (next(filter(None, map(version.pins_of, names)), None) for version in (before, after))
    batches = [batch for batch in after.batches.values() if batch.job in names]
    submitted = _lines(batch for batch in batches if batch.batch not in before.batches)
    ended = _lines(
        batch
        for batch in batches
        if batch.ended and not (batch.batch in before.batches and before.batches[batch.batch].ended)
    )
    outputs = [o for o in after.outputs.values() if o.job in names and before.outputs.get(o.output) != o]
    changed = why_new(old, new) if new is not None and (old is None or old.pins != new.pins) else ""
    if not (submitted or ended or outputs or changed):
        return None
    rows = sum(output.rows for output in outputs) if outputs else None
    return Entry(commit, new.model if new else "", changed, submitted, ended, rows)


def _lines(batches: Iterable[BatchLine]) -> tuple[BatchLine, ...]:
    return tuple(sorted(batches, key=lambda batch: (batch.created_at, batch.batch)))
