"""A backend that asks an OpenAI-compatible server: vLLM, Ollama, llama.cpp, or a vendor.

It retries transient errors; permanent ones become error lines. Only the upstream's Authorization header has the key.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from runner.errors import ServiceError
from runner.http_server import logger
from runner.service.backends import Answer, BackendFailed, Json, RequestFailed
from runner.service.backends.translate import from_chat, to_chat
from runner.service.config import ServiceConfig, is_loopback
from runner.service.jobs.lines import Format, usage_of

SERVER_ERROR_ATTEMPTS = 5
"""Attempts after a 5xx or a timeout, which the request may cause. 429 and refused connections have no limit."""

MAX_DELAY = 30.0
_MAX_MESSAGE = 2000
_MAX_BODY_IN_MESSAGE = 300
_NO_SUCH_ENDPOINT = frozenset({404, 405, 501})
_CHAT, _RESPONSES = "/chat/completions", "/responses"
_REQUIRED_LIST = {_CHAT: ("choices", "chat completion"), _RESPONSES: ("output", "response")}
"""By endpoint: the list that each of its answers has, and the name of the object."""


@dataclass(frozen=True, slots=True)
class _Transient:
    """A transient error, and the delay that the upstream asks for (seconds)."""

    code: str
    message: str
    limited: bool
    retry_after: float | None = None


class _NoEndpoint(Exception):
    """The upstream knows either not this path or not the model."""

    def __init__(self, failed: RequestFailed) -> None:
        super().__init__(failed.message)
        self.failed = failed


class Upstream:
    """Asks an upstream, `config.concurrency` requests at a time. Raises ServiceError without its key."""

    def __init__(self, config: ServiceConfig) -> None:
        self._concurrency = config.concurrency
        self._retry_time = config.upstream_retry_time
        self._backoff = config.upstream_backoff
        self._slots = asyncio.Semaphore(config.concurrency)
        self._lacks_responses = False
        if config.key_env and not _is_private(config.base_url):
            logger.warning("upstream.key_sent_in_the_clear", hint="use https, or a private network")
        self._client = httpx.AsyncClient(
            base_url=_with_version(config.base_url),
            headers=_headers(config.key_env),
            timeout=httpx.Timeout(config.upstream_timeout, connect=min(10.0, config.upstream_timeout)),
            limits=httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
            follow_redirects=False,
        )

    @property
    def concurrency(self) -> int:
        """Return the configured number, over all jobs."""
        return self._concurrency

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request. An unsupported format becomes a chat completion."""
        async with self._slots:
            response = await self._answer(body, wire)
        return Answer(response, usage_of(response))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _answer(self, body: Json, wire: Format) -> Json:
        if wire is Format.RESPONSES and not self._lacks_responses:
            try:
                return await self._post(_RESPONSES, body)
            except _NoEndpoint:
                pass
        try:
            chat = await self._post(_CHAT, to_chat(body, wire))
        except _NoEndpoint as missing:
            raise missing.failed from missing
        if wire is Format.RESPONSES and not self._lacks_responses:
            # Only an answer on this path shows that the 404 meant the other path, not the model.
            self._lacks_responses = True
            logger.info("upstream.lacks_responses")
        return from_chat(chat, body, wire)

    async def _post(self, path: str, body: Json) -> Json:
        content = orjson.dumps(body)
        give_up_at = time.monotonic() + self._retry_time
        attempt = 0
        while True:
            outcome = await self._post_once(path, content)
            if not isinstance(outcome, _Transient):
                return outcome
            attempt += 1
            delay = self._delay(attempt, outcome)
            if (outcome.limited and attempt >= SERVER_ERROR_ATTEMPTS) or time.monotonic() + delay > give_up_at:
                raise RequestFailed(outcome.code, outcome.message)
            logger.info("upstream.retried", code=outcome.code, attempt=attempt, pause=round(delay, 2))
            await asyncio.sleep(delay)

    def _delay(self, attempt: int, error: _Transient) -> float:
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - so that many requests do not return at once
        delay = min(self._backoff * 2.0 ** min(attempt - 1, 16), MAX_DELAY) * jitter
        return max(delay, min(error.retry_after or 0.0, MAX_DELAY))

    async def _post_once(self, path: str, content: bytes) -> Json | _Transient:
        """Post once. Raises RequestFailed, BackendFailed or _NoEndpoint for permanent errors."""
        try:
            reply = await self._client.post(path, content=content, headers={"content-type": "application/json"})
        except (httpx.ConnectTimeout, httpx.ConnectError):
            message = "The upstream does not accept connections."
            return _Transient("upstream_unreachable", message, limited=False)
        except httpx.TimeoutException:
            return _Transient("upstream_timeout", "The upstream did not answer in time.", limited=True)
        except httpx.TransportError as error:
            message = f"The upstream closed the connection: {type(error).__name__}."
            return _Transient("upstream_unreachable", message, limited=True)
        return _answer_in(reply, path) if reply.is_success else _error_of(reply)


def _with_version(base_url: str) -> str:
    """Return the base URL, with /v1 unless it has a path."""
    url = base_url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _is_private(base_url: str) -> bool:
    parts = urlsplit(base_url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _headers(key_env: str) -> dict[str, str]:
    if not key_env:
        return {}
    key = os.environ.get(key_env, "")
    if not key:
        raise ServiceError(
            f"the environment variable {key_env}, which should hold the upstream's key, is not set", code="BS703"
        )
    return {"authorization": f"Bearer {key}"}


def _answer_in(reply: httpx.Response, path: str) -> Json:
    """Return a reply's answer. Raises RequestFailed.

    Some proxies send errors with status 200.
    """
    value = _json_in(reply)
    required, name = _REQUIRED_LIST[path]
    if isinstance(value, dict) and isinstance(value.get(required), list):
        return value
    failed = _failure_in(value, reply, f"The upstream's answer is not a {name}")
    raise RequestFailed(failed.code or "invalid_upstream_answer", failed.message)


def _error_of(reply: httpx.Response) -> _Transient:
    """Return a transient error. Raises RequestFailed, BackendFailed or _NoEndpoint otherwise."""
    status = reply.status_code
    failed = _failure_in(_json_in(reply), reply, "The upstream refused the request")
    failed.code = failed.code or f"http_{status}"
    if status == 401:
        raise BackendFailed("upstream_unauthorized", f"The upstream does not accept the key: {failed.message}")
    if failed.code == "insufficient_quota":
        raise BackendFailed(failed.code, failed.message)
    if status == 429:
        return _Transient("rate_limit_exceeded", failed.message, limited=False, retry_after=_retry_after(reply))
    if status in _NO_SUCH_ENDPOINT:
        raise _NoEndpoint(failed)
    if status == 408 or status >= 500:
        return _Transient("upstream_error", failed.message, limited=True, retry_after=_retry_after(reply))
    raise failed


def _failure_in(value: Any, reply: httpx.Response, problem: str) -> RequestFailed:
    """Return the error of OpenAI's {"error": {...}}, or vLLM's without the envelope.

    Without a message, use `problem` and the reply. The code may be empty.
    """
    error = value.get("error", value) if isinstance(value, dict) else None
    fields = error if isinstance(error, dict) else {}
    message = fields.get("message") or (error if isinstance(error, str) else None)
    code = next((fields[name] for name in ("code", "type") if isinstance(fields.get(name), str) and fields[name]), "")
    return RequestFailed(code, f"{message}"[:_MAX_MESSAGE] if message else f"{problem}. {_summary(reply)}")


def _summary(reply: httpx.Response) -> str:
    """Return the URL without user and password, the status and the reply's start."""
    url = reply.request.url
    status = f"{url.scheme}://{url.netloc.decode()}{url.path} replied HTTP {reply.status_code} {reply.reason_phrase}"
    details = [f"to {reply.headers['location']}"] if "location" in reply.headers else []
    details += [text] if (text := " ".join(reply.text.split())) else []
    return f"{status.rstrip()}: {' '.join(details)[:_MAX_BODY_IN_MESSAGE]}" if details else f"{status.rstrip()}."


def _json_in(reply: httpx.Response) -> Any:
    try:
        return orjson.loads(reply.content)
    except ValueError:
        return None


def _retry_after(reply: httpx.Response) -> float | None:
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
