"""A thread with an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from runner.http_server import logger


class LoopThread:
    """Runs one coroutine function in a thread.

    After its setup it calls `ready`; `start` waits for that.
    """

    def __init__(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Start and wait for the setup. Raises its exception."""
        self._thread.start()
        self._ready.wait()
        if self._failure:
            self._thread.join()
            raise self._failure

    def ready(self) -> None:
        """Let `start` return."""
        self._loop = asyncio.get_running_loop()
        self._ready.set()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` in the loop, from any thread, until the work ends."""
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
