"""Collects a job's batches and writes them to its lockfile about once a second.

Writing the whole lockfile for each batch would cost the square of their number.
"""

from __future__ import annotations

from runner.context import Context
from runner.state.lockfile_lines import BatchLine, PinsLine

INTERVAL = 1.0
"""Seconds between two writes of the lockfile. The ledger has each batch at once, so a crash loses none."""


class LockfileWriter:
    """Batch lines waiting to be written to one lockfile. `pins` are those of the job's newest batches."""

    def __init__(self, context: Context, lock_path: str, pins: PinsLine) -> None:
        self._context = context
        self._lock_path = lock_path
        self._pins = pins
        self._unsaved: list[BatchLine] = []
        self._saved_at = 0.0

    def add(self, line: BatchLine, *, pinned: bool) -> None:
        """Add a line, and write all lines if the last write is a second ago. Call `flush` after the last one."""
        self._unsaved.append(line)
        now = self._context.now().timestamp()
        if abs(now - self._saved_at) >= INTERVAL:
            self.flush(pinned=pinned)
            self._saved_at = now

    def flush(self, *lines: BatchLine, pinned: bool = False) -> None:
        """Write all lines that are not written yet. With `pinned`, also make these pins the job's current ones."""
        self._unsaved += lines
        if not self._unsaved:
            return
        lockfile = self._context.lockfile(self._lock_path).with_batches(self._unsaved)
        if pinned:
            lockfile = lockfile.with_pins(self._pins)
        self._context.save_lockfile(self._lock_path, lockfile)
        self._unsaved.clear()
