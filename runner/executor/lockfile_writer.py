"""A job's batches on their way into its lockfile: within a second, since a write for each costs their square."""

from __future__ import annotations

from runner.context import Context
from runner.state.lockfile_lines import BatchLine, PinsLine

SAVED = 1.0
"""Seconds between two writes of the lockfile while batches come and go; the ledger has each at once."""


class LockfileWriter:
    """Lines of one lockfile that are to be written. `pins` is what the job's newest batches are made under."""

    def __init__(self, context: Context, lock_path: str, pins: PinsLine) -> None:
        self._context = context
        self._lock_path = lock_path
        self._pins = pins
        self._unsaved: list[BatchLine] = []
        self._saved_at = 0.0

    def add(self, line: BatchLine, *, pinned: bool) -> None:
        """Have a line in the lockfile within a second, if others follow; `save` writes the last ones."""
        self._unsaved.append(line)
        now = self._context.now().timestamp()
        if abs(now - self._saved_at) >= SAVED:
            self.save(pinned=pinned)
            self._saved_at = now

    def save(self, *lines: BatchLine, pinned: bool = False) -> None:
        """Write what is not written yet; with `pinned` the job's pins are now these."""
        self._unsaved += lines
        if not self._unsaved:
            return
        lockfile = self._context.lockfile(self._lock_path).with_batches(self._unsaved)
        if pinned:
            lockfile = lockfile.with_pins(self._pins)
        self._context.save_lockfile(self._lock_path, lockfile)
        self._unsaved.clear()
