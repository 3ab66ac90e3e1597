"""The history of a job: commits that changed its lockfile lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from runner.base.repository_paths import LOCKFILE_BYTES, read_inside
from runner.errors import LockfileError
from runner.reconciler.plan.idempotency import is_ours
from runner.reconciler.plan.reasons import why_new
from runner.report.git import Commit, Git
from runner.state.lockfile import Lockfile
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


def history(folder: Path, lock_path: str, project: str, address: str, limit: int = LIMIT) -> tuple[Entry, ...]:
    """Return a job's entries, also under earlier names, newest first. Raises BatchspecError outside git."""
    git = Git(folder)
    commits = git.commits(lock_path, limit + 1)
    versions: list[tuple[Commit | None, bytes]] = [
        (commit, git.read(commit.hash, lock_path) or b"") for commit in reversed(commits)
    ]
    file = folder / lock_path
    here = read_inside(folder, lock_path, LOCKFILE_BYTES) if file.is_file() else b""
    if not versions or here != versions[-1][1]:
        versions.append((None, here))
    parsed = [_parsed(commit, data, lock_path, project) for commit, data in versions]
    names = next((found.aliases(address) for found in reversed(parsed) if isinstance(found, Lockfile)), (address,))
    entries: list[Entry] = []
    before = Lockfile(project)
    for position, ((commit, _), after) in enumerate(zip(versions, parsed, strict=True)):
        if isinstance(after, LockfileError):
            entries.append(Entry(commit, "", "", trouble=after.message))
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
    added = [batch for batch in batches if batch.batch not in before.batches]
    imported = [batch for batch in added if _is_imported(after.project, names, batch)]
    ended = _lines(
        batch
        for batch in batches
        if batch.ended and not (batch.batch in before.batches and before.batches[batch.batch].ended)
    )
    outputs = [o for o in after.outputs.values() if o.job in names and before.outputs.get(o.output) != o]
    # Outputs with the current pins come last.
    outputs.sort(key=lambda o: (new is not None and o.pins == new.pins, o.output))
    reasons = list(_changed(old, new)) if new is not None else []
    known = sorted(o.output for o in before.outputs.values() if o.job in names)
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
