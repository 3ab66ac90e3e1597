"""The kernel lock that one process holds while it writes, and who holds it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path


@contextlib.contextmanager
def write_lock(path: Path, *, waiting: contextlib.AbstractContextManager[object] | None = None) -> Iterator[None]:
    """The kernel lock that serialises what writes on this machine. It dies with its process.

    Who holds it stands in the file, for the message to the second comer. Waits as long as the holder lives, inside
    `waiting`, which may tell the user.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  only commands that write need it

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with waiting or contextlib.nullcontext():
            lock.acquire()
    holder = path.with_suffix(".holder")
    try:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        with contextlib.suppress(OSError):  # a disk that is full is told of where it matters
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now; it may be otherwise the moment after."""
    from filelock import FileLock, Timeout  # noqa: PLC0415  only commands that write need it

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def lock_holder(path: Path) -> str:
    """Who holds the lock, in words; for a message only."""
    for _ in range(3):
        with contextlib.suppress(OSError):
            text = path.with_suffix(".holder").read_text(encoding="utf-8")
            if text:
                return text
        time.sleep(0.01)
    return "another process"
