"""Open connections: their limits, in total and by address.

A new connection may end the longest wait for a client. So idle clients can neither use up the file descriptors nor lock
others out.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from runner.http_server import logger
from runner.http_server.addresses import group
from runner.http_server.bounds import Bounds

_DESCRIPTORS = 3 / 8
"""Share of the process's file descriptors that connections may use. Each may open a file too; a quarter stays free."""

_PAUSE = 0.05
"""Seconds to wait before the next accept after the system ran out of descriptors or memory."""

_GOODBYE = 1.0
"""Seconds that a client has to confirm the end of a TLS connection."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(slots=True)
class Wait:
    """A wait for the client: start (loop time) and limit in seconds."""

    since: float
    allowed: float


class Side(Protocol):
    """This side of a connection."""

    def reads(self) -> bool:
        """Return whether the peer can send."""
        ...

    def unsent(self) -> int:
        """Return the bytes that the peer has not taken."""
        ...

    def close(self, *, at_once: bool) -> None:
        """End the connection."""
        ...


class Connection:
    """One accepted connection, also during its TLS handshake.

    `receiving` is the wait for the peer's next bytes, `sending` for it to read.
    """

    __slots__ = ("origin", "receiving", "sending", "side")

    def __init__(self, origin: str, side: Side, receiving: Wait) -> None:
        self.origin = origin
        self.side = side
        self.receiving: Wait | None = receiving
        self.sending: Wait | None = None

    def waits(self) -> list[Wait]:
        """Return the current waits; none while the server works."""
        waits = [self.sending] if self.sending and self.side.unsent() else []
        if self.receiving and not waits and self.side.reads():
            waits.append(self.receiving)
        return waits


class Connections:
    """All open connections. For one event loop."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._total = min(bounds.connections, max(int(_descriptor_limit() * _DESCRIPTORS), 1))
        self._open: set[Connection] = set()

    def admit(self, address: str, side: Side, now: float) -> Connection | None:
        """Count a new connection, perhaps in another's place. Return None without room."""
        connection = Connection(group(address), side, Wait(now, self._bounds.header_time))
        same = [one for one in self._open if one.origin == connection.origin]
        if len(same) >= self._bounds.per_address and not self._close_oldest(same):
            return None
        if len(self._open) >= self._total and not self.make_room():
            return None
        self._open.add(connection)
        return connection

    def make_room(self) -> bool:
        """Close the longest wait of the address with the most. Return False without any."""
        counts = Counter(one.origin for one in self._open)
        waiting = [one for one in self._open if one.waits()]
        most = max((counts[one.origin] for one in waiting), default=0)
        return self._close_oldest([one for one in waiting if counts[one.origin] == most])

    def _close_oldest(self, candidates: Iterable[Connection]) -> bool:
        waiting = [(min(wait.since for wait in waits), one) for one in candidates if (waits := one.waits())]
        if not waiting:
            return False
        _, oldest = min(waiting, key=itemgetter(0))
        logger.info("connection.closed_for_another", address=oldest.origin)
        self.forget(oldest)
        oldest.side.close(at_once=True)
        return True

    def forget(self, connection: Connection) -> None:
        """Stop counting a connection."""
        self._open.discard(connection)

    def sweep(self, now: float) -> None:
        """Close every connection beyond its time limit."""
        for one in tuple(self._open):
            unsent = one.side.unsent()
            if unsent and one.sending is None:
                one.sending = self.sending(unsent, now)
            elif not unsent:
                one.sending = None
            if any(now - wait.since > wait.allowed for wait in one.waits()):
                logger.info("connection.timed_out", address=one.origin)
                one.side.close(at_once=False)

    def sending(self, unsent: int, now: float) -> Wait:
        """Return the wait for a peer to take `unsent` bytes."""
        return Wait(now, self._bounds.body_time + unsent / self._bounds.min_rate)


class Listener:
    """Accepts a socket's connections and starts their protocols."""

    def __init__(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        bounds: Bounds,
        protocol: Callable[[Connection], asyncio.Protocol],
    ) -> None:
        self._listener = listener
        self._tls = tls
        self._bounds = bounds
        self._protocol = protocol
        self._opening: set[asyncio.Task[None]] = set()
        self.connections = Connections(bounds)

    async def run(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        try:
            while True:
                try:
                    accepted, address = await loop.sock_accept(self._listener)
                except OSError as error:
                    if error.errno in _EXHAUSTED:
                        logger.warning("connection.not_accepted", reason=error.strerror)
                        self.connections.make_room()
                        await asyncio.sleep(_PAUSE)
                    continue
                self._start(accepted, address[0])
                # An accept that succeeds at once does not yield to open connections.
                await asyncio.sleep(0)
        finally:
            for task in self._opening:
                task.cancel()

    def _start(self, accepted: socket.socket, address: str) -> None:
        handshake = _Handshake()
        connection = self.connections.admit(address, handshake, asyncio.get_running_loop().time())
        if connection is None:
            logger.info("connection.refused", address=address)
            accepted.close()
            return
        handshake.task = asyncio.create_task(self._open(accepted, connection))
        self._opening.add(handshake.task)
        handshake.task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, connection: Connection) -> None:
        """Make any TLS handshake, and start the protocol."""
        handshake = connection.side
        limits = {"ssl_handshake_timeout": self._bounds.header_time, "ssl_shutdown_timeout": _GOODBYE}
        try:
            # A failed handshake is not an error of the service.
            with suppress(OSError):
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: self._protocol(connection),
                    accepted,
                    ssl=self._tls,
                    **(limits if self._tls else {}),
                )
        finally:
            if connection.side is handshake:
                self.connections.forget(connection)
                accepted.close()


class _Handshake:
    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None

    def reads(self) -> bool:
        return True

    def unsent(self) -> int:
        return 0

    def close(self, *, at_once: bool) -> None:
        assert self.task is not None, at_once
        self.task.cancel()


def _descriptor_limit() -> float:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return float("inf")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft
