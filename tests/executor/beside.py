"""Many trials beside each other, in forked processes, with word of what goes wrong and of how far it is."""

from __future__ import annotations

import os
import selectors
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.planner.render import cores

TELL = 15.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Trial:
    """What is tried: a name, and a function of an empty folder that says what is wrong, or is empty."""

    name: str
    wrong: Callable[[Path], str]


def try_all(trials: Sequence[Trial], workers: int = 0) -> int:
    """Try all, `workers` beside each other, by default one for each core; print each that went wrong; how many did."""
    count = workers or cores()
    watching = selectors.DefaultSelector()
    done = bad = 0
    started = said = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="batchspec-trials-") as folder:
        for worker in range(count):
            read, told = os.pipe()
            if not os.fork():
                os.close(read)
                _work(trials[worker::count], Path(folder) / str(worker), told)
            os.close(told)
            watching.register(read, selectors.EVENT_READ, bytearray())
        while watching.get_map():
            for key, _ in watching.select():
                data = os.read(key.fd, 1 << 16)
                key.data.extend(data)
                if not data:
                    watching.unregister(key.fd)
                    os.close(key.fd)
                *ended, rest = bytes(key.data).split(b"\0")
                key.data[:] = rest
                for text in ended:
                    done, bad = done + 1, bad + bool(text)
                    if text:
                        print(text.decode(), flush=True)
            if time.monotonic() - said > TELL:
                said = time.monotonic()
                left = (said - started) / max(done, 1) * (len(trials) - done)
                print(f"{done} of {len(trials)}, {bad} wrong, about {left / 60:.1f} minutes left", flush=True)
        for _ in range(count):
            os.wait()
    return bad + len(trials) - done


def _work(trials: Sequence[Trial], folder: Path, told: int) -> None:
    """Try these in this fork, one after the other, and end with it."""
    try:
        for number, trial in enumerate(trials):
            own = folder / str(number)
            own.mkdir(parents=True)
            try:
                wrong = trial.wrong(own)
            except Exception as error:  # noqa: BLE001  the other trials are made all the same
                wrong = repr(error)
            os.write(told, f"{trial.name}: {wrong}\0".encode() if wrong else b"\0")
    finally:
        os._exit(0)
