"""File rights that count, also where the tests are run by root."""

from __future__ import annotations

import ctypes
import os

_DROP, _OVERRIDE, _READ_SEARCH = 24, 1, 2
"""PR_CAPBSET_DROP, and the capabilities by which root passes over rights (Linux, prctl.h and capability.h)."""


def as_anybody() -> None:
    """Rights count for this process, also where it is root's."""
    if os.geteuid() == 0:
        for capability in (_OVERRIDE, _READ_SEARCH):
            if ctypes.CDLL(None).prctl(_DROP, capability, 0, 0, 0):
                raise OSError(f"capability {capability} could not be dropped")
