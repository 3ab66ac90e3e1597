"""One service for one data folder: its lock, socket and threads, and their order."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from filelock import FileLock, Timeout
from starlette.responses import Response
from starlette.types import ASGIApp

from runner.errors import ServiceError
from runner.http_server import logger
from runner.http_server.server import BoundedServer, listen, url_of
from runner.http_server.tls import server_context
from runner.service.config import ServiceConfig
from runner.service.dashboard.dashboard import Dashboard
from runner.service.db.batches import Batches
from runner.service.db.database import Database
from runner.service.db.files import Files
from runner.service.db.outbox import Outbox
from runner.service.db.storage import Storage
from runner.service.faults.faults import Faults
from runner.service.http.middleware import Accounts, error_response
from runner.service.http.presigned import Transfers
from runner.service.http.rate_limit import Guesses
from runner.service.http.routes import BatchRoutes, build_app
from runner.service.jobs.scheduler import Scheduler
from runner.service.server.running import URL_FILE, running_url
from runner.service.webhooks.sender import WebhookSender
from runner.service.webhooks.targets import Targets


class Host:
    """Serves in the thread that calls `serve`, until any thread calls `stop`."""

    def __init__(self, config: ServiceConfig, on_ready: Callable[[str], None]) -> None:
        self._config = config
        self._on_ready = on_ready
        self._server: BoundedServer | None = None
        self._stopped = False

    def serve(self) -> None:
        """Start, serve and stop. Raises ServiceError if the service can't start."""
        with ExitStack() as stack:
            _claim(self._config.data, stack)
            tls = server_context(self._config.tls_cert, self._config.tls_key) if self._config.tls_cert else None
            listener = stack.enter_context(contextlib.closing(listen(self._config.host, self._config.port)))
            app = _assemble(self._config, stack)
            url = url_of("https" if tls else "http", self._config.host, listener)
            url_file = self._config.data / URL_FILE
            stack.callback(url_file.unlink, missing_ok=True)
            url_file.write_text(f"{url}\n", encoding="utf-8")
            self._server = BoundedServer(app, tls, self._config.bounds, _refuse, lambda: self._ready(url))
            if not self._stopped:
                asyncio.run(self._server.serve(sockets=[listener]))
            logger.info("service.stopped", url=url)

    def stop(self) -> None:
        """End `serve`. A second call does not wait for connections."""
        if self._server is not None:
            self._server.force_exit = self._stopped
            self._server.should_exit = True
        self._stopped = True

    def _ready(self, url: str) -> None:
        if self._config.faults:
            logger.warning("service.makes_trouble", faults=", ".join(self._config.faults), seed=self._config.seed)
        logger.info("service.started", url=url, data=str(self._config.data), backend=self._config.backend)
        self._on_ready(url)


def _refuse(status: int, message: str) -> Response:
    return error_response(status, message, str(uuid.uuid4()))


def _claim(data: Path, stack: ExitStack) -> None:
    """Lock the data folder until the stack closes or this process dies."""
    try:
        # An existing folder may be shared on purpose; private files and folders have their own modes.
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not thread-local: another thread of this process may release it.
        stack.enter_context(FileLock(data / "lock", timeout=0, thread_local=False))
    except Timeout as error:
        url = running_url(data)
        raise ServiceError(
            f"another service is running over {data}",
            hint=f"it listens on {url}" if url else "stop it first",
            code="BS702",
        ) from error
    except OSError as error:
        raise ServiceError(f"the data folder {data} cannot be used: {error}") from error


def _assemble(config: ServiceConfig, stack: ExitStack) -> ASGIApp:
    faults = Faults(config.faults, config.seed)
    try:
        storage = Storage(config.data)
        db = stack.enter_context(contextlib.closing(Database(config.data / "service.db")))
        files, batches = Files(db), Batches(db)
        storage.sweep(files.blobs())
        transfers = Transfers(config, files, batches, storage, faults)
    except OSError as error:
        raise ServiceError(f"the data folder {config.data} cannot be used: {error}") from error
    targets = Targets(config.webhook_allow)
    sender = WebhookSender(config, faults, targets)
    sender.start()
    stack.callback(sender.stop)
    scheduler = Scheduler(config, storage, faults, on_webhook=sender.wake)
    scheduler.start()
    stack.callback(scheduler.stop)
    api = BatchRoutes(
        config, files, batches, storage, transfers=transfers, scheduler=scheduler, faults=faults, targets=targets
    )
    accounts = Accounts(config.tokens, Guesses(config.lasting_limits(config.guess_limits)))
    page = Dashboard(config, batches, Outbox(db), storage, transfers=transfers, accounts=accounts)
    return build_app(api, transfers, page, accounts, config, faults)
