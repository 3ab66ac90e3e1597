"""A command's time, and the memory of all its processes together."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EVERY = 0.02


@dataclass(frozen=True, slots=True)
class Ran:
    """Wall time and processor time in seconds, all processes together; their highest resident memory in 10^6 bytes."""

    seconds: float
    processor: float
    megabytes: float


def run(command: Sequence[str], folder: Path, *, memory: bool = False) -> Ran:
    """Run a command that must succeed; its output is dropped. Memory is sampled every 20 ms, on Linux.

    Bytecode is kept, as where the package is installed, also if this process was told not to.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    running = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while memory and running.poll() is None:
        peak = max(peak, sum(_resident(pid) for pid in _family(running.pid)))
        time.sleep(_EVERY)
    _, said = running.communicate()
    seconds = time.perf_counter() - started
    if running.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {running.returncode}\n{said.decode(errors='replace')}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(seconds, processor, peak / 1e6)


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _family(int(child)))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0
