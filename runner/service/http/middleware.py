"""Authentication, errors in the documented shape, and bodies of limited size."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.http_server import logger
from runner.service.config import is_loopback
from runner.service.http.rate_limit import Guesses, Limiter

OPEN_ACCOUNT = "local"
"""The account of all requests if no tokens are configured."""

_ERROR_IDS = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    412: "precondition_failed",
    413: "payload_too_large",
    416: "range_not_satisfiable",
    422: "unprocessable_entity",
    429: "too_many_requests",
    431: "request_header_fields_too_large",
    500: "server_error",
    502: "bad_gateway",
    503: "service_unavailable",
    504: "gateway_timeout",
}

API = "/v1/"
"""Prefix of the paths that rate limits and call faults apply to."""

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")


class HttpError(Exception):
    """An error response."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class JsonResponse(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return orjson.dumps(content)


def error_response(status: int, message: str, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error in the API description's shape."""
    error = {"id": _ERROR_IDS.get(status, "error"), "message": message, "request_id": request_id}
    return JsonResponse(error, status, headers)


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """Return a JSON object. Raises HttpError: 413 above `limit` bytes, else 400."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HttpError(413, f"The body may hold at most {limit} bytes.")
    try:
        value = orjson.loads(bytes(body))
    except ValueError as error:
        raise HttpError(400, f"The body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise HttpError(400, "The body must be a JSON object.")
    return value


def uuid_of(text: str) -> str | None:
    """Return an id in canonical form, if it is a UUID."""
    try:
        return str(uuid.UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether an Origin header names the host. A TLS proxy may change the scheme."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False


class Methods:
    """A route's handlers by HTTP method. Others get 405 with the allowed ones."""

    def __init__(self, **handlers: Callable[[Request], Awaitable[Response]]) -> None:
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers.setdefault("HEAD", handlers["GET"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises HttpError."""
        handler = self._handlers.get(scope["method"])
        if handler is None:
            allowed = ", ".join(self._handlers)
            raise HttpError(405, f"{scope['method']} can't be used here; use {allowed}.", {"allow": allowed})
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)


class Accounts:
    """The configured tokens, each an account, as digests.

    After too many wrong tokens, on any route, an address must pause, except with tokens too long to guess.
    """

    def __init__(self, tokens: tuple[str, ...], guesses: Guesses) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]
        self._unguessable = {digest for token, digest in zip(tokens, self._digests, strict=True) if is_long(token)}
        self._guesses = guesses

    @property
    def open(self) -> bool:
        """Return whether no token is needed."""
        return not self._digests

    def authenticate(self, authorization: str, address: str) -> str | None:
        """Return the account of `address`'s header, if any. Raises HttpError."""
        scheme, _, token = authorization.partition(" ")
        account = self.authenticate_token(token.strip().encode("latin-1"), address)
        return account if scheme.lower() == "bearer" else None

    def authenticate_token(self, token: bytes, address: str) -> str | None:
        """Return the account of `address`'s token, if any.

        Takes the same time for any wrong token. Raises HttpError (429) after too many.
        """
        if not token:
            return None
        given = hashlib.sha256(token).digest()
        found = None
        for digest in self._digests:
            if hmac.compare_digest(digest, given):
                found = digest
        if found not in self._unguessable and (pause := self._guesses.pause(address)) > 0:
            message = "Too many wrong tokens came from your address. Try again later."
            raise HttpError(429, message, {"retry-after": f"{ceil(pause)}"})
        if found is None:
            self._guesses.count(address)
            return None
        return _account(found)

    def known(self, account: str) -> bool:
        """Return whether an account has a token now."""
        return any(_account(digest) == account for digest in self._digests)


def is_long(token: str) -> bool:
    """Return whether a token is too long to guess: 32 characters, and not a few repeated ones."""
    return len(token) >= 32 and len(set(token)) >= 10


def peer(scope: Scope) -> str:
    """Return the address of a request."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _account(digest: bytes) -> str:
    return digest.hex()[:32]


def _error_headers(error: HttpError) -> dict[str, str]:
    headers = dict(error.headers)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    if error.status == 413:
        headers["connection"] = "close"  # the rest of the body is not worth reading
    return headers


class AuthMiddleware:
    """The outermost layer: authenticates requests, and answers every exception.

    Presigned paths (`free`) need no token. `visitor` returns a dashboard path's account, or an empty text. An open
    service serves only programs and pages of this machine: any web page can reach loopback through its visitor's
    browser.
    """

    def __init__(
        self,
        app: ASGIApp,
        accounts: Accounts,
        limiter: Limiter,
        *,
        free: tuple[str, ...],
        is_page: Callable[[str], bool],
        visitor: Callable[[Headers, str], str],
    ) -> None:
        self._app = app
        self._accounts = accounts
        self._limiter = limiter
        self._free = free
        self._is_page = is_page
        self._visitor = visitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request_id = str(uuid.uuid4())
        # Without an app, routers answer unknown paths in plain text instead of raising.
        scope["app"] = self._app
        started = False
        extra_headers = {"x-request-id": request_id, "x-content-type-options": "nosniff"}

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(extra_headers)
            await send(message)

        try:
            scope.setdefault("state", {})["account"] = self._authenticate(scope, extra_headers)
            await self._app(scope, receive, send_with_id)
        except HttpError as error:
            response = error_response(error.status, error.message, request_id, _error_headers(error))
            await response(scope, receive, send_with_id)
        except HTTPException as error:
            headers = dict(error.headers or {})
            await error_response(error.status_code, error.detail, request_id, headers)(scope, receive, send_with_id)
        except ClientDisconnect:
            logger.info("client.left", path=scope["path"])
        except Exception:
            logger.error("exchange.crashed", path=scope["path"], request_id=request_id)
            if started:
                raise
            message = "The service could not process this request."
            await error_response(500, message, request_id)(scope, receive, send_with_id)

    def _authenticate(self, scope: Scope, extra_headers: dict[str, str]) -> str:
        """Return the account, and add the rate limit headers. Raises HttpError."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        if not _HOST.fullmatch(host):
            raise HttpError(400, "The Host header is missing, malformed or doubled.")
        if scope["path"].startswith(self._free):
            return ""
        account = self._account(scope, headers, host)
        if account and (scope["path"].startswith(API) or scope["method"] == "POST"):
            allowed, limit_headers = self._limiter.count(account)
            extra_headers.update(limit_headers)
            if not allowed:
                raise HttpError(429, "API rate limit exceeded. Try again when ratelimit-reset has passed.")
        if account is None:
            raise HttpError(401, "Unable to authenticate you: send a valid token as 'Authorization: Bearer TOKEN'.")
        return account

    def _account(self, scope: Scope, headers: Headers, host: str) -> str | None:
        if self._accounts.open:
            self._require_local(headers, host)
            return OPEN_ACCOUNT
        if self._is_page(scope["path"]):
            return self._visitor(headers, peer(scope))
        return self._accounts.authenticate(headers.get("authorization", ""), peer(scope))

    def _require_local(self, headers: Headers, host: str) -> None:
        origin = headers.get("origin")
        name = urlsplit(f"//{host}").hostname or ""
        if not is_loopback(name) or (origin and not is_same_origin(origin, host)):
            raise HttpError(403, "Without a token this service answers only programs of the machine it runs on.")
