"""Reads git history: commits of a file, and files of a commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.base.git import blob_at, copy_at, read_blobs, resolve_commit, run_git

_FIELD, _RECORD = "\x1f", "\x1e"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: full hash, ISO time, author's name, first line."""

    hash: str
    time: str
    author: str
    subject: str


class Git:
    """The repository that contains a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def commits(self, path: str, limit: int) -> tuple[Commit, ...]:
        """Return the newest `limit` commits that changed the file, newest first."""
        form = _FIELD.join(("%H", "%aI", "%an", "%s")) + _RECORD
        text = run_git(self._folder, "log", f"--max-count={limit}", f"--format={form}", "--", f"./{path}")
        records = (record.strip("\n").split(_FIELD) for record in text.decode(errors="replace").split(_RECORD))
        return tuple(Commit(*record) for record in records if len(record) == 4)

    def resolve(self, revision: str) -> str:
        """Return a revision's full hash. Raises BatchspecError without one, or outside git."""
        return resolve_commit(self._folder, revision)

    def read(self, commit: str, path: str) -> bytes | None:
        """Return a file's bytes; None if missing. Raises BatchspecError."""
        name = blob_at(self._folder, commit, path)
        return None if name is None else run_git(self._folder, "cat-file", "blob", name)

    def versions(self, commits: Sequence[str], path: str, most: int) -> Iterator[bytes | None]:
        """Yield a file's bytes in each commit, if there. Raises BatchspecError."""
        return read_blobs(self._folder, [f"{commit}:./{path}" for commit in commits], most)

    def copy(self, commit: str, path: str, target: Path) -> bool:
        """Copy a file to `target` in pieces. Return False if missing."""
        return copy_at(self._folder, commit, path, target)
