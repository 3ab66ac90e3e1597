"""Reading a project's git history: commits of a file, and files as they were. Nothing is written to git."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.errors import BatchspecError

_FIELD, _RECORD = "\x1f", "\x1e"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: its full hash, ISO time of the author, author's name, and first line."""

    hash: str
    time: str
    author: str
    subject: str


class Git:
    """The repository that a folder stands in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def commits(self, path: str, limit: int) -> tuple[Commit, ...]:
        """The newest `limit` commits in which the file at `path` differs from its parent, newest first."""
        form = _FIELD.join(("%H", "%aI", "%an", "%s")) + _RECORD
        text = self._run("log", f"--max-count={limit}", f"--format={form}", "--", f"./{path}").decode(errors="replace")
        records = (record.strip("\n").split(_FIELD) for record in text.split(_RECORD))
        return tuple(Commit(*record) for record in records if len(record) == 4)

    def resolve(self, revision: str) -> str:
        """The full hash that a revision names. Raises BatchspecError where it names none, or here is no repository."""
        self._run("rev-parse", "--git-dir")
        try:
            found = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except BatchspecError as error:
            raise BatchspecError(
                f"git knows no commit {revision}",
                hint="write a branch, a tag, a hash, or HEAD~1",
                code="BS803",
            ) from error
        return found.decode().strip()

    def read(self, commit: str, path: str) -> bytes | None:
        """A file's bytes in a commit; None where it is not in it."""
        try:
            return self._run("cat-file", "blob", f"{commit}:./{path}")
        except BatchspecError:
            return None

    def files(self, commit: str, folder: str) -> tuple[str, ...]:
        """The files below a folder in a commit."""
        text = self._run("ls-tree", "-r", "-z", "--name-only", commit, "--", f"./{folder}")
        return tuple(name for name in text.decode(errors="replace").split("\0") if name)

    def copy(self, commit: str, path: str, target: Path) -> bool:
        """Write a file's bytes in a commit to `target`, in pieces; False where it is not in it."""
        with target.open("wb") as file:
            done = subprocess.run(  # noqa: S603  no shell; the commit is a full hash
                self._command("cat-file", "blob", f"{commit}:./{path}"),
                stdout=file,
                stderr=subprocess.DEVNULL,
                check=False,
            )
        return done.returncode == 0

    def _command(self, *arguments: str) -> list[str]:
        return ["git", "-C", str(self._folder), *arguments]

    def _run(self, *arguments: str) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603  no shell
                self._command(*arguments), capture_output=True, check=False, timeout=120
            )
        except FileNotFoundError as error:
            raise BatchspecError(
                "git is not installed here", hint="install git, and run it again", code="BS803"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise BatchspecError(f"git {arguments[0]} took longer than two minutes", code="BS803") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise BatchspecError(
                f"git {arguments[0]} failed: {said or f'exit code {done.returncode}'}",
                hint="history is read from git; run it inside the project's repository",
                code="BS803",
            )
        return done.stdout
