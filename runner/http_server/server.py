"""uvicorn with a limited listener, and without its signal handling."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Generator

import uvicorn
from starlette.types import ASGIApp

from runner.errors import ServiceError
from runner.http_server import logger
from runner.http_server.bounded_protocol import BoundedProtocol, Refuse
from runner.http_server.bounds import Bounds
from runner.http_server.connections import Connection, Listener

GRACE = 1
"""Seconds that open connections get when the server stops."""


class BoundedServer(uvicorn.Server):
    """Serves one ASGI app on one socket. `refuse` answers requests that exceed a bound."""

    def __init__(
        self,
        app: ASGIApp,
        tls: ssl.SSLContext | None,
        bounds: Bounds,
        refuse: Refuse,
        on_started: Callable[[], None],
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._tls = tls
        self._bounds = bounds
        self._refuse = refuse
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the caller."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections with limits."""
        await self.lifespan.startup()
        assert sockets is not None
        self.servers = []
        self._listener = Listener(sockets[0], self._tls, self._bounds, self._protocol)
        self._accepting = asyncio.create_task(self._listener.run())
        self._accepting.add_done_callback(self._check)
        self.started = True
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        """Check time limits, ten times a second."""
        self._listener.connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and close connections."""
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        await super().shutdown(sockets)

    def _protocol(self, connection: Connection) -> BoundedProtocol:
        return BoundedProtocol(
            self.config, self.server_state, self._bounds, connection, self._listener.connections, self._refuse
        )

    def _check(self, accepting: asyncio.Task[None]) -> None:
        """Stop a service that can't accept connections: its supervisor restarts it."""
        if not accepting.cancelled() and (error := accepting.exception()):
            logger.warning("service.accepts_no_more", reason=f"{error!r}")
            self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 lets the system pick one. Raises ServiceError."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ServiceError(f"cannot listen on {host}:{port}: {error}") from error


def url_of(scheme: str, host: str, listener: socket.socket) -> str:
    """Return a listener's URL for this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host).strip("[]")  # noqa: S104
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}"
