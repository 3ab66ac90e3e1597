"""Files and folders that only their owner can read."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path


def create(path: Path) -> FileIO:
    """Create a file of mode 0600, unbuffered. Raises OSError, also if it exists."""
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def make_folder(path: Path) -> None:
    """Make a folder of mode 0700. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
