"""The names in a folder, listed again after a change."""

from __future__ import annotations

import os
import time
from pathlib import Path

_SETTLED = 100_000_000
"""Nanoseconds after which a change of a folder has another time stamp. File systems count in steps of 1 to 10 ms."""


class FolderNames:
    """The names in one folder, which may not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[int, int] | None = None
        self._names: frozenset[str] = frozenset()

    def now(self) -> frozenset[str]:
        """Return the names. Raises OSError."""
        try:
            found = self._folder.stat()
        except FileNotFoundError:
            return frozenset()
        stamp = (found.st_ino, found.st_mtime_ns)
        if stamp != self._stamp:
            listed_at = time.time_ns()
            self._names = frozenset(os.listdir(self._folder))  # noqa: PTH208  names, not paths
            # A change in the same moment would leave no trace, so a fresh listing is not trusted again.
            self._stamp = stamp if listed_at - stamp[1] > _SETTLED else None
        return self._names
