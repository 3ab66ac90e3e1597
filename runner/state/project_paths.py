"""Paths of one project's state.

Other providers than the spec's have isolated realms: a trial never touches real state.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.base.digest import sha256_hex
from runner.base.repository_paths import MARKER, writable
from runner.errors import REFUSED
from runner.state.atomic import private_folder


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """Folders of one project and provider. `base` is `.batchspec/`."""

    root: Path
    base: Path
    home: Path
    files: Path

    @classmethod
    def for_provider(cls, root: Path, store: str, realm_name: str | None) -> ProjectPaths:
        """Return the spec's own paths, or those of a realm."""
        base = root / store
        home = base if realm_name is None else base / "realms" / realm_name
        return cls(root, base, home, root if realm_name is None else home)

    @property
    def ledger(self) -> Path:
        """Return the ledger's path."""
        return self.home / "ledger.db"

    def lock(self, lock_path: str) -> Path:
        """Return the kernel lock for a lockfile's jobs."""
        return self.home / "locks" / lock_path.replace("/", "--")

    @property
    def webhooks(self) -> Path:
        """Return the folder of received webhooks."""
        return self.base / "webhooks"

    @property
    def service(self) -> Path:
        """Return the embedded service's folder."""
        return self.base / "service"

    def lockfile(self, lock_path: str) -> Path:
        """Return a lockfile's path. Raises TrustError."""
        return writable(self.files, lock_path)

    def output(self, output_path: str) -> Path:
        """Return an output's path. Raises TrustError."""
        return writable(self.files, output_path)

    def shown(self, path: Path) -> str:
        """Return a path for messages."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def shards(self, realm_folder: str) -> Path:
        """Return the folder of shards and their keys."""
        return self.home / "store" / realm_folder / "shards"

    def results(self, realm_folder: str) -> Path:
        """Return the folder of raw results."""
        return self.home / "store" / realm_folder / "results"

    def rendered(self, address: str) -> Path:
        """Return a job's cached rendering."""
        return self.home / "rendered" / sha256_hex(address.encode())[:32]

    def kept(self, address: str) -> Path:
        """Return the kept requests of an open partition."""
        return self.home / "open" / sha256_hex(address.encode())[:32]

    @contextlib.contextmanager
    def scratch(self, *, read_only: bool = False) -> Iterator[Path]:
        """Yield a temporary folder. Also remove those of killed processes.

        With `read_only`, fall back to the system's.
        """
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(self._scratch())
            except OSError as error:
                if not read_only or error.errno not in REFUSED:
                    raise
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batchspec-")))
            yield folder

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        from filelock import FileLock  # noqa: PLC0415  not every command needs a folder

        self.make_store()
        parent = self.home / "scratch"
        private_folder(parent)
        for folder in parent.iterdir():
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            with FileLock(folder / _IN_USE):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def make_store(self) -> None:
        """Create the store, marked as one and ignored by git."""
        private_folder(self.base)
        for name, text in (
            (".gitignore", "*\n"),
            (MARKER, "Batchspec made this folder, and deletes old files in it.\n"),
        ):
            with contextlib.suppress(FileExistsError), (self.base / name).open("x", encoding="utf-8") as file:
                file.write(text)


_IN_USE = "in-use"
"""A file in each scratch folder. Its process holds its lock. A folder without it is never deleted."""
_LOCK_GRACE = 60.0
"""Seconds that a new folder is kept, because its process may be about to lock it."""


def _is_abandoned(folder: Path) -> bool:
    """Return whether a folder's process lost its lock by ending."""
    from filelock import FileLock, Timeout  # noqa: PLC0415

    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or time.time() - status.st_mtime < _LOCK_GRACE:
            return False
        if not stat.S_ISREG((folder / _IN_USE).lstat().st_mode):
            return False
        with FileLock(folder / _IN_USE, timeout=0):
            return True
    except (OSError, Timeout):
        return False
