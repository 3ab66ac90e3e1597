"""Faults of HTTP requests: responses lost, late or refused, and transfers cut off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.http_server import logger
from runner.http_server.bounded_protocol import ABORT
from runner.service.faults.faults import Faults
from runner.service.http.middleware import HttpError

_SERVER_ERRORS = (500, 502, 503, 504)
_CUT_AFTER = 1 << 16
"""Bytes after which an upload of unknown length is cut off."""


class FaultMiddleware:
    """Injects faults into requests, between authentication and routes."""

    def __init__(self, app: ASGIApp, faults: Faults, *, uploads: str, downloads: str) -> None:
        self._app = app
        self._faults = faults
        self._uploads = uploads
        self._downloads = downloads
        self._bursts = _ErrorBursts(faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. Raises HttpError for injected errors."""
        path, method = scope["path"], scope["method"]
        if path.startswith(self._uploads):
            if method == "PUT" and self._strikes("cut-upload", scope):
                receive = _cut_receive(scope, receive)
        elif path.startswith(self._downloads):
            if method == "GET" and self._strikes("cut-download", scope):
                send = _cut_send(scope, send)
        elif path.startswith("/v1/"):
            self._bursts.next()
            create = method == "POST" and path == "/v1/batches"
            if create and self._strikes("unheard-create", scope):
                await _abort(scope)
                return
            send = self._late(send)
            if create:
                send = self._losing_response(scope, send)
        await self._app(scope, receive, send)

    def _strikes(self, name: str, scope: Scope) -> bool:
        struck = self._faults.draw(name) is not None
        if struck:
            logger.info("fault.struck", fault=name, path=scope["path"])
        return struck

    def _late(self, send: Send) -> Send:
        async def late(message: Message) -> None:
            if message["type"] == "http.response.start" and (seconds := self._faults.draw("slow")):
                await asyncio.sleep(float(seconds))
            await send(message)

        return late

    def _losing_response(self, scope: Scope, send: Send) -> Send:
        """Close the connection after an accepted create whose response must be lost."""
        lost = False

        async def sometimes(message: Message) -> None:
            nonlocal lost
            if message["type"] == "http.response.start" and message["status"] == 201:
                lost = self._strikes("lost-create", scope)
                if lost:
                    await _abort(scope)
            if not lost:
                await send(message)

        return sometimes


class _ErrorBursts:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._remaining = {"burst-429": 0, "burst-5xx": 0}
        self._errors = 0
        self._guard = threading.Lock()

    def next(self) -> None:
        """Count an API call. Raises HttpError in a burst."""
        with self._guard:
            for name in self._remaining:
                # Only a call outside of a burst can begin one.
                if not self._remaining[name] and (calls := self._faults.draw(name)):
                    self._remaining[name] = max(int(float(calls)), 1)
            struck = next((name for name, remaining in self._remaining.items() if remaining), None)
            if struck is None:
                return
            self._remaining[struck] -= 1
            self._errors += struck == "burst-5xx"
            number = self._errors
        logger.info("fault.struck", fault=struck)
        if struck == "burst-429":
            raise HttpError(
                429, "You have sent too many requests; this one fell into a burst-429.", {"retry-after": "1"}
            )
        status = _SERVER_ERRORS[(number - 1) % len(_SERVER_ERRORS)]
        raise HttpError(status, "The service is in trouble; this call fell into a burst-5xx.")


def _cut_receive(scope: Scope, receive: Receive) -> Receive:
    announced = Headers(scope=scope).get("content-length", "")
    allowed = int(announced) // 2 if announced.isdigit() else _CUT_AFTER
    taken = 0

    async def some() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > allowed or not message.get("more_body"):
            await _abort(scope)
            return {"type": "http.disconnect"}
        return message

    return some


def _cut_send(scope: Scope, send: Send) -> Send:
    allowed = 0
    cut = False

    async def some(message: Message) -> None:
        nonlocal allowed, cut
        if cut:
            return
        if message["type"] == "http.response.start":
            allowed = int(Headers(raw=message["headers"]).get("content-length", "0")) // 2
        elif message["type"] == "http.response.body":
            body = message["body"]
            if len(body) > allowed or not message.get("more_body"):
                cut = True
                await send({**message, "body": body[:allowed], "more_body": True})
                # Give the bytes sent so far time to arrive.
                await asyncio.sleep(0.05)
                await _abort(scope)
                return
            allowed -= len(body)
        await send(message)

    return some


async def _abort(scope: Scope) -> None:
    """Close the connection, and wait until the server has noticed."""
    abort: Callable[[], Any] = scope["extensions"][ABORT]["abort"]
    abort()
    await asyncio.sleep(0.01)
