"""Sends webhooks over HTTP, only to addresses that were checked.

It connects to an address of its only lookup, so DNS rebinding has no effect. It uses no proxy or redirect, which would
choose another address.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from urllib.parse import unquote_to_bytes

import httpcore
import httpx

from runner.http_server.addresses import Address
from runner.service.webhooks.targets import Targets

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Returns the addresses of a host name. Raises OSError if it has none."""


class NotPermitted(Exception):
    """The host has no permitted address, or none at all."""


class Sender:
    """Sends POST requests from one event loop."""

    def __init__(
        self, targets: Targets, *, timeout: float, max_connections: int, resolve: Resolve | None = None
    ) -> None:
        self._timeout = timeout
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=max_connections,
            max_keepalive_connections=0,
            network_backend=_Pinned(targets, resolve or _resolve),
        )

    async def post(self, url: str, content: bytes, headers: dict[str, str]) -> int:
        """Send a message and return the status. The body stays unread.

        Raises NotPermitted, ValueError for an invalid URL, and httpcore's exceptions.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{error}") from error
        if parsed.userinfo:
            encoded = base64.b64encode(unquote_to_bytes(parsed.userinfo)).decode()
            headers = {**headers, "authorization": f"Basic {encoded}"}
        target = httpcore.URL(scheme=parsed.raw_scheme, host=parsed.raw_host, port=parsed.port, target=parsed.raw_path)
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        async with self._pool.stream(
            "POST", target, headers=[*headers.items()], content=content, extensions={"timeout": timeouts}
        ) as response:
            return response.status

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to permitted addresses only."""

    def __init__(self, targets: Targets, resolve: Resolve) -> None:
        self._targets = targets
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, and connect to the first address that answers. Raises NotPermitted."""
        failure: Exception = NotPermitted()
        for address in await self._permitted(host, port):
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _permitted(self, host: str, port: int) -> list[Address]:
        try:
            found = [ipaddress.ip_address(one) for one in await self._resolve(host, port)]
        except (OSError, ValueError) as error:
            raise NotPermitted from error
        return [one for one in dict.fromkeys(found) if self._targets.permits(host, one)]


async def _resolve(host: str, port: int) -> list[str]:
    """Resolve in a thread: a slow name server must not delay others."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str] | OSError) -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    def ask() -> None:
        try:
            found: list[str] | OSError = [
                str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            ]
        except OSError as error:
            found = error
        except UnicodeError:
            found = OSError(f"{host} is no host name")
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=ask, name="batchspec-resolve", daemon=True).start()
    return await answer
