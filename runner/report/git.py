"""Reads a project's git history: commits of a file, and files of a commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.base.git import copy_blob, read_blobs, run_git
from runner.errors import BatchspecError

_FIELD, _RECORD = "\x1f", "\x1e"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: full hash, ISO time, author's name, and first line."""

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
        """Return the full hash of a revision. Raises BatchspecError without one, or outside git."""
        run_git(self._folder, "rev-parse", "--git-dir")
        try:
            found = run_git(
                self._folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
            )
        except BatchspecError as error:
            raise BatchspecError(
                f"git knows no commit {revision}",
                hint="write a branch, a tag, a hash, or HEAD~1",
                code="BS803",
            ) from error
        return found.decode().strip()

    def read(self, commit: str, path: str) -> bytes | None:
        """Return a file's bytes; None if missing. Raises BatchspecError."""
        name = self._blob(commit, path)
        return None if name is None else run_git(self._folder, "cat-file", "blob", name)

    def versions(self, commits: Sequence[str], path: str, most: int) -> Iterator[bytes | None]:
        """Yield a file's bytes in each commit; None if a commit does not have it. Raises BatchspecError."""
        return read_blobs(self._folder, [f"{commit}:./{path}" for commit in commits], most)

    def files(self, commit: str, folder: str) -> tuple[str, ...]:
        """Return the files below a folder."""
        text = run_git(self._folder, "ls-tree", "-r", "-z", "--name-only", commit, "--", f"./{folder}")
        return tuple(name for name in text.decode(errors="replace").split("\0") if name)

    def copy(self, commit: str, path: str, target: Path) -> bool:
        """Copy a file to `target` in pieces. Return False if missing."""
        name = self._blob(commit, path)
        with target.open("wb") as file:
            if name is not None:
                copy_blob(self._folder, name, file)
        return name is not None

    def _blob(self, commit: str, path: str) -> str | None:
        """Return the object at a path. A partial clone may lack its content; nothing is fetched."""
        try:
            found = run_git(self._folder, "rev-parse", "--verify", "--quiet", f"{commit}:./{path}")
        except BatchspecError:
            return None
        return found.decode().strip()
