"""The HTTP side: checks a call, stores its event durably, and only then answers 2xx."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from runner.errors import BatchspecError
from runner.http_server import logger
from runner.listener.events import EventQueue, event_of
from runner.listener.projects import CurrentSecrets
from runner.listener.signature import verify

MAX_BODY = 1_000_000


def refuse(status: int, message: str) -> Response:
    """Return a response with a reason."""
    return Response(f"{message}\n", status, media_type="text/plain")


class Receiver:
    """Receives a project's webhooks. Calls `on_event` after an event is on disk, from any thread."""

    def __init__(
        self, secrets: CurrentSecrets, queue: EventQueue, now: Callable[[], datetime], on_event: Callable[[], None]
    ) -> None:
        self._secrets = secrets
        self._queue = queue
        self._now = now
        self._on_event = on_event

    async def receive(self, request: Request) -> Response:
        """Answer one call."""
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:12]) > MAX_BODY:
            return _too_large()
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    return _too_large()
        except ClientDisconnect:
            return refuse(400, "The body is incomplete.")
        headers = {name: request.headers.get(name, "") for name in _SIGNED}
        return await run_in_threadpool(self._accept, request.path_params["profile"], headers, bytes(body))

    def _accept(self, profile: str, headers: dict[str, str], body: bytes) -> Response:
        verdict = verify(self._secrets.verifiers(profile), headers, body, self._now())
        if verdict == "forged" and self._secrets.refresh():
            verdict = verify(self._secrets.verifiers(profile), headers, body, self._now())
        if not self._secrets.verifiers(profile):
            return refuse(404, "No job of this provider has a webhook with a secret that is set.")
        if verdict != "valid":
            logger.info("webhook.refused", profile=profile, reason=verdict)
            if verdict == "old":
                return refuse(400, "The webhook is older than five minutes, or from the future.")
            return refuse(401, "The signature is missing or wrong.")
        event = event_of(profile, headers["webhook-id"], body, self._secrets.project_name, self._now().timestamp())
        if event is None:
            return refuse(200, "Nothing to do.")
        try:
            is_new = self._queue.add(event)
        except (BatchspecError, OSError) as error:
            logger.warning("webhook.not_stored", profile=profile, batch=event.batch, reason=f"{error}")
            return refuse(503, "The event could not be stored. Send it again.")
        if not is_new:
            return refuse(200, "Received before.")
        logger.info("webhook.received", profile=profile, batch=event.batch, type=event.kind)
        self._on_event()
        return refuse(202, "Stored.")


_SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature")


def _too_large() -> Response:
    return refuse(413, f"The body may hold at most {MAX_BODY} bytes.")


def build_app(receiver: Receiver) -> Starlette:
    """Return the ASGI app."""
    return Starlette(routes=[Route("/webhooks/{profile}", receiver.receive, methods=["POST"])])
