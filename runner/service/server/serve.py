"""Runs the service in a process or in a thread. Cheap to import."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

from runner.service.config import ServiceConfig

if TYPE_CHECKING:
    from runner.service.server.host import Host


def run(config: ServiceConfig, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then stop cleanly. Call it in the main thread.

    It calls `on_ready` with the URL when it accepts connections. Unfinished jobs continue at the next start. A second
    signal does not wait for connections.

    Raises ServiceError: data folder in use, address in use, backend missing.
    """
    from runner.service.server.host import Host  # noqa: PLC0415 - uvicorn, starlette: only when something is served

    host = Host(config, on_ready)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        host.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        host.serve()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class BackgroundService:
    """The service in a thread; a context manager. Raises ServiceError."""

    def __init__(self, config: ServiceConfig) -> None:
        from runner.service.server.host import Host  # noqa: PLC0415 - uvicorn, starlette: only when something is served

        self.config = config
        self.url = ""
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._host: Host = Host(config, self._on_ready)
        # A daemon thread does not delay the exit of the process; unfinished jobs are on disk.
        self._thread = threading.Thread(target=self._main, name="batchspec-service", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    @classmethod
    def start(cls, config: ServiceConfig) -> BackgroundService:
        """Start a service and wait until it accepts connections."""
        return cls(config)

    def stop(self) -> None:
        """Stop within about a second. Unfinished jobs continue at the next start."""
        self._host.stop()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _on_ready(self, url: str) -> None:
        self.url = url
        self._ready.set()

    def _main(self) -> None:
        try:
            self._host.serve()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        finally:
            self._ready.set()
