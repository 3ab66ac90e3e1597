"""`batchspec listen`: one HTTP server and one worker over one project."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from runner.context import NullWatcher, Watcher
from runner.errors import ServiceError
from runner.http_server import logger
from runner.http_server.bounds import Bounds
from runner.http_server.server import BoundedServer, listen, url_of
from runner.http_server.tls import server_context
from runner.listener.app import Receiver, build_app, refuse
from runner.listener.event_worker import Worker
from runner.listener.events import EventQueue
from runner.listener.projects import CurrentSecrets, load_current, secrets_of
from runner.state.atomic import private_folder
from runner.state.project_paths import ProjectPaths

GRACE = 4.0
"""Seconds that the current step gets when the listener stops. The next start, or the next apply, repeats it."""
_CONNECTIONS = 256


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where to listen, and for which project. `workers` are rendering processes."""

    root: Path
    host: str = "127.0.0.1"
    port: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    workers: int | None = None


class Listening:
    """Receives webhooks in the thread that calls `serve`, until any calls `stop`."""

    def __init__(
        self,
        config: ListenConfig,
        on_ready: Callable[[tuple[str, ...]], None],
        *,
        watcher: Watcher | None = None,
        environ: Mapping[str, str] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._on_ready = on_ready
        self._watcher = watcher or NullWatcher()
        self._environ = dict(os.environ if environ is None else environ)
        self._now = now
        self._server: BoundedServer | None = None
        self._stopped = False

    def serve(self) -> None:
        """Start, serve and stop. `on_ready` gets each profile's URL. Raises BatchspecError."""
        if self._config.tls_key and not self._config.tls_cert:
            raise ServiceError("a TLS key needs its certificate", hint="give `--tls-cert` too", code="BS704")
        project = load_current(self._config.root, self._environ)
        secrets = secrets_of(project, self._environ)
        for problem in secrets.problems:
            logger.warning("secret.missing", reason=problem)
        if not secrets.by_profile:
            raise ServiceError(
                "there is no webhook to listen for: no job has a `webhook` whose secret is set",
                hint="; ".join(secrets.problems[:5]) or "add `webhook:` to a job, and set its secret's variable",
                code="BS705",
            )
        paths = ProjectPaths.for_provider(project.root, project.settings.store, None)
        with ExitStack() as stack:
            paths.make_store()
            stack.enter_context(_claim(paths.webhooks))
            tls = server_context(self._config.tls_cert, self._config.tls_key) if self._config.tls_cert else None
            listener = stack.enter_context(contextlib.closing(listen(self._config.host, self._config.port)))
            queue = EventQueue(paths.webhooks)
            worker = Worker(project.root, queue, self._environ, self._watcher, workers=self._config.workers)
            current = CurrentSecrets(project.root, self._environ, project)
            app = build_app(Receiver(current, queue, self._now, worker.wake))
            url = url_of("https" if tls else "http", self._config.host, listener)
            urls = tuple(f"{url}/webhooks/{name}" for name in sorted(secrets.by_profile))
            # Behind a proxy all calls come from one address.
            bounds = Bounds(connections=_CONNECTIONS, per_address=_CONNECTIONS)
            self._server = BoundedServer(app, tls, bounds, refuse, lambda: self._on_ready(urls))
            worker.start()
            stack.callback(worker.stop, GRACE)
            if not self._stopped:
                logger.info("listen.started", url=url)
                asyncio.run(self._server.serve(sockets=[listener]))
            logger.info("listen.stopped", url=url)

    def stop(self) -> None:
        """End `serve`. A second call does not wait for connections."""
        if self._server is not None:
            self._server.force_exit = self._stopped
            self._server.should_exit = True
        self._stopped = True


def run(config: ListenConfig, on_ready: Callable[[tuple[str, ...]], None], watcher: Watcher) -> None:
    """Listen until SIGTERM or SIGINT. Call it in the main thread. Raises BatchspecError."""
    listening = Listening(config, on_ready, watcher=watcher)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        listening.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        listening.serve()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """Lock the project's events. Raises ServiceError if another listener has them."""
    private_folder(folder)
    try:
        with FileLock(folder / "lock", timeout=0, thread_local=False):
            yield
    except Timeout as error:
        raise ServiceError(
            "another `batchspec listen` runs for this project", hint="stop it first", code="BS702"
        ) from error
