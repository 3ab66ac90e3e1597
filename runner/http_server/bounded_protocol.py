"""uvicorn's HTTP protocol with limits on header size and on the client's time.

httptools collects a header of any size.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from starlette.responses import Response
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from runner.http_server.bounds import Bounds
from runner.http_server.connections import Connection, Connections, Wait

ABORT = "batchspec.abort"
"""The ASGI extension that closes a connection without a response."""

Refuse = Callable[[int, str], Response]
"""Returns the response for a request that is not handled: its status and the reason."""

_NO_LINGER = struct.pack("ii", 1, 0)

PIPELINED = 16
"""Requests that a client may send before the first response."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection's side of HTTP."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        bounds: Bounds,
        connection: Connection,
        connections: Connections,
        refuse: Refuse,
    ) -> None:
        super().__init__(config, state, {})
        self._refuse = refuse
        self._bounds = bounds
        self._connection = connection
        self._connections = connections
        self._idle = False
        self._in_message = False
        self._in_headers = False
        self._headers = 0
        self._head_bytes = 0
        self._unparsed = 0
        self._parsed_any = False
        self._refusal: tuple[int, str] | None = None

    def reads(self) -> bool:
        """Return whether the peer can send."""
        return not self.flow.read_paused

    def unsent(self) -> int:
        """Return the bytes that the peer has not taken."""
        return self.transport.get_write_buffer_size()

    def close(self, *, at_once: bool) -> None:
        """Close the connection. With unsent bytes, reset it."""
        if at_once or self.transport.is_closing() or self.unsent():
            # Without a reset the kernel would keep unsent bytes for minutes.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
        else:
            self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for headers."""
        super().connection_made(transport)
        self._connection.side = self
        self._wait(self._bounds.header_time)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self._connections.forget(self._connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data. Refuse too large an element."""
        if self._idle:
            self._idle = False
            self._wait(self._bounds.header_time)
        self._parsed_any = False
        super().data_received(data)
        self._unparsed = 0 if self._parsed_any else self._unparsed + len(data)
        if self._unparsed > self._bounds.header_bytes and not self.transport.is_closing():
            self._too_large()
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.transport.abort}}
        self._in_message = self._in_headers = True
        self._head_bytes = 0
        self._headers = 0
        if self._connection.receiving is None:
            self._wait(self._bounds.header_time)

    def on_url(self, url: bytes) -> None:
        """Count a piece of the target. Raises ValueError."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header or trailer. Raises ValueError."""
        self._headers += 1
        self._count(len(name) + len(value) + 4)
        if self._headers > self._bounds.headers:
            self._refusal = (431, f"A request may have at most {self._bounds.headers} headers.")
            raise ValueError
        # Trailers arrive after the headers were handled, so they are dropped.
        if self._in_headers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Time the body. Raises ValueError for too many pipelined requests."""
        self._parsed_any = True
        self._in_headers = False
        if len(self.pipeline) >= PIPELINED:
            self._refusal = (400, f"At most {PIPELINED} requests may be sent before the first is answered.")
            raise ValueError
        self._wait(self._bounds.body_time)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Add a piece's time at the lowest rate."""
        self._parsed_any = True
        wait = self._connection.receiving
        if wait is not None and not self.cycle.response_complete:
            wait.since = min(wait.since + len(body) / self._bounds.min_rate, self.loop.time())
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the body's timer."""
        self._parsed_any = True
        self._in_message = False
        self._connection.receiving = None
        super().on_message_complete()
        if self.cycle.response_complete:
            self._wait_for_next()

    def on_response_complete(self) -> None:
        """Time the rest of the request."""
        super().on_response_complete()
        # Otherwise the next request has started, with its own timer.
        if self.cycle.response_complete:
            self._wait_for_next()

    def pause_writing(self) -> None:
        """Start the timer for the client to read."""
        super().pause_writing()
        self._connection.sending = self._connections.sending(self.unsent(), self.loop.time())

    def resume_writing(self) -> None:
        """Stop that timer."""
        super().resume_writing()
        self._connection.sending = None

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid or too large request, and disconnect."""
        status, message = self._refusal or (400, msg)
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            if self._in_headers or self.pipeline or cycle.response_started:
                # The client would take this for the response to an earlier request, or a part of it.
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        response = self._refuse(status, message)
        response.headers["connection"] = "close"
        head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join((*head, b"", bytes(response.body))))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: upgrade requests are ignored."""

    def _count(self, size: int) -> None:
        self._parsed_any = True
        self._head_bytes += size
        if self._head_bytes > self._bounds.header_bytes:
            self._too_large()
            raise ValueError

    def _too_large(self) -> None:
        self._refusal = (431, f"The headers of a request may hold at most {self._bounds.header_bytes} bytes.")

    def _wait(self, seconds: float) -> None:
        self._connection.receiving = Wait(self.loop.time(), seconds)

    def _wait_for_next(self) -> None:
        # uvicorn's timer stops at any byte.
        self._unset_keepalive_if_required()
        self._idle = not self._in_message
        self._wait(self._bounds.idle_time)
