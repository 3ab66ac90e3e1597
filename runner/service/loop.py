"""A thread with an event loop, and calls into it from other threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from runner.service import logger


class LoopThread:
    """Runs one coroutine function from `start` until it returns.

    The coroutine calls `ready` after its setup; `start` waits for that. `name` is the name of the thread.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Start, and return after the setup. Raises the exception that ended the setup."""
        self._thread.start()
        self._ready.wait()
        if self._failure:
            self._thread.join()
            raise self._failure

    def ready(self) -> None:
        """Let `start` return. The coroutine calls this."""
        self._loop = asyncio.get_running_loop()
        self._ready.set()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the loop, from any thread. Does nothing after the work has ended."""
        if self._loop is not None and self._thread.is_alive():
            try:
                self._loop.call_soon_threadsafe(callback)
            except RuntimeError:  # the loop was closed in the meantime
                return

    def join(self) -> None:
        """Wait until the work has returned."""
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in `start`
            self._failure = error
            if self._ready.is_set():
                logger.error("service.thread_crashed", thread=self._thread.name)
        finally:
            self._ready.set()
