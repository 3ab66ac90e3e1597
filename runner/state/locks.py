"""Kernel locks between processes."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from runner.state.atomic import private_folder


@contextlib.contextmanager
def write_lock(path: Path, *, waiting: contextlib.AbstractContextManager[object] | None = None) -> Iterator[None]:
    """Hold a kernel lock, which ends with its process.

    Waits inside `waiting`.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415  only commands that write need it

    private_folder(path.parent)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with waiting or contextlib.nullcontext():
            lock.acquire()
    holder = path.with_suffix(".holder")
    try:
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        with contextlib.suppress(OSError):  # the write that matters reports a full disk
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}", encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock."""
    from filelock import FileLock, Timeout  # noqa: PLC0415  only commands that write need it

    private_folder(path.parent)
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def lock_holder(path: Path) -> str:
    """Describe the lock's holder, for messages."""
    for _ in range(3):
        with contextlib.suppress(OSError):
            text = path.with_suffix(".holder").read_text(encoding="utf-8")
            if text:
                return text
        time.sleep(0.01)
    return "another process"
