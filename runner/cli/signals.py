"""Ctrl-C and SIGTERM: the first stops the work within seconds, the second at once."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from runner.cli.terminal.printing import say_error

GRACE_PERIOD = 4.0
"""Seconds that the first signal gives to current work."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
CODE = 130
_interrupted = False
_reported = False
_listening = False


def install() -> None:
    """Handle both signals from now on. Call it in the main thread."""
    global _listening  # noqa: PLW0603  one process, one way to end it
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    if not _listening:
        _listening = True
        heard, report = os.pipe()
        os.set_blocking(report, False)
        signal.set_wakeup_fd(report, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(heard,), daemon=True).start()


def command(arguments: Sequence[str]) -> str:
    """Return the command that resumes one with these arguments."""
    import shlex  # noqa: PLC0415

    return shlex.join(["batchspec", *(word for word in arguments if word != "--no-wait")])


def report(running: Sequence[str] = (), *, again: bool = True) -> None:
    """Report the interruption, what still runs elsewhere and, with `again`, the command to resume."""
    global _reported  # noqa: PLW0603  once a process
    _reported = True
    lines = ["", "Interrupted. Everything known is on disk.", *(f"  {text}" for text in running)]
    say_error("\n".join([*lines, *([f"To continue, run: {command(sys.argv[1:])}"] if again else [])]))


def reported() -> bool:
    """Return whether the interruption was reported."""
    return _reported


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    global _interrupted  # noqa: PLW0603  a signal has nowhere else to leave its mark
    if _interrupted:
        os._exit(CODE)
    _interrupted = True
    raise KeyboardInterrupt


def _watch(heard: int) -> None:
    """End the process if the main thread does not.

    It may be in a call that notices no signal, such as a name lookup or a sort. The ledger makes that safe.
    """
    while True:
        number = os.read(heard, 1)[0]
        if number in _SIGNALS and signal.getsignal(number) is _interrupt:
            break  # else other code handles the signals now, as in `serve`
    if not select.select([heard], [], [], GRACE_PERIOD)[0]:
        report(["the current step did not stop in time and was abandoned"], again=sys.argv[1:2] == ["apply"])
    os._exit(CODE)
