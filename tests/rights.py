"""File rights that count, also where the tests are run by root."""

from __future__ import annotations

import ctypes
import os
import resource

_DROP, _OVERRIDE, _READ_SEARCH = 24, 1, 2
"""PR_CAPBSET_DROP, and the capabilities by which root passes over rights (Linux, prctl.h and capability.h)."""
_VERSION = 0x20080522
"""Of the structures of capget and capset: a version and a process id, then effective, permitted and inheritable sets,
each in two words of 32 bits of which the second set of three holds the higher capabilities (capability.h)."""


def as_anybody(largest: int | None = None) -> None:
    """Let rights count for this process and those it starts, also where it is root's.

    With `largest` no file can be made larger than so many bytes. Raise OSError where the system refuses this.
    """
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_OVERRIDE, _READ_SEARCH):
            if libc.prctl(_DROP, capability, 0, 0, 0):
                raise OSError(f"capability {capability} could not be dropped")
        # What was dropped there counts from the next exec on; this process gives up what it has.
        header, sets = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
        if libc.capget(header, sets):
            raise OSError(ctypes.get_errno(), "capget")
        for word in range(3):
            sets[word] &= ~(1 << _OVERRIDE | 1 << _READ_SEARCH)
        if libc.capset(header, sets):
            raise OSError(ctypes.get_errno(), "capset")
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
