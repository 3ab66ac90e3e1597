"""Write a job's batches to its lockfile about once a second: one by one takes quadratic time."""

from __future__ import annotations

from runner.context import Context
from runner.state.lockfile_lines import BatchLine, PinsLine

INTERVAL = 1.0
"""Seconds between two writes. The ledger has each batch at once, so a crash loses none."""


class LockfileWriter:
    """Batch lines not written yet."""

    def __init__(self, context: Context, lock_path: str, pins: PinsLine) -> None:
        self._context = context
        self._lock_path = lock_path
        self._pins = pins
        self._unsaved: list[BatchLine] = []
        self._saved_at = 0.0

    def add(self, line: BatchLine, *, pinned: bool) -> None:
        """Add a line, to write soon. Call `flush` at the end."""
        self._unsaved.append(line)
        now = self._context.now().timestamp()
        if abs(now - self._saved_at) >= INTERVAL:
            self.flush(pinned=pinned)
            self._saved_at = now

    def flush(self, *lines: BatchLine, pinned: bool = False) -> None:
        """Write all lines; with `pinned`, make the pins current."""
        self._unsaved += lines
        if not self._unsaved:
            return
        lockfile = self._context.lockfile(self._lock_path).with_batches(self._unsaved)
        if pinned:
            lockfile = lockfile.with_pins(self._pins)
        self._context.save_lockfile(self._lock_path, lockfile)
        self._unsaved.clear()
