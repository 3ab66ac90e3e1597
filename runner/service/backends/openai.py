"""The backend that asks any server with an OpenAI-compatible API: vLLM, Ollama, llama.cpp, or a vendor's own.

What may pass is tried again with growing pauses; what will not becomes an error line. The key comes from an
environment variable and goes nowhere but into the Authorization header of the upstream.
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
from runner.service import logger
from runner.service.backends import Answer, BackendFailed, Json, RequestFailed
from runner.service.backends.translate import from_chat, to_chat
from runner.service.config import ServiceConfig, is_loopback
from runner.service.jobs.lines import Format, usage_of

SERVER_ERROR_ATTEMPTS = 5
"""A 5xx or a timeout may be this request's own doing, so it is not asked for ever; 429 and no connection are not."""

MAX_PAUSE = 30.0
_MAX_MESSAGE = 2000
_NO_SUCH_ENDPOINT = frozenset({404, 405, 501})
_CHAT, _RESPONSES = "/chat/completions", "/responses"


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Something that may pass: what to say if it does not, and how long the upstream wants to be left alone."""

    code: str
    message: str
    bounded: bool
    pause: float | None = None


class _NoEndpoint(Exception):
    """The upstream does not know this path, or the model; the two can't be told apart."""

    def __init__(self, failed: RequestFailed) -> None:
        super().__init__(failed.message)
        self.failed = failed


class Upstream:
    """Asks an upstream, `config.concurrency` requests at once. Raises ServiceError where its key is not set."""

    def __init__(self, config: ServiceConfig) -> None:
        self._concurrency = config.concurrency
        self._patience = config.upstream_patience
        self._backoff = config.upstream_backoff
        self._slots = asyncio.Semaphore(config.concurrency)
        self._lacks_responses = False
        if config.key_env and not _is_private(config.base_url):
            logger.warning("upstream.key_sent_in_the_clear", hint="use https, or a network that is yours alone")
        self._client = httpx.AsyncClient(
            base_url=_with_version(config.base_url),
            headers=_headers(config.key_env),
            timeout=httpx.Timeout(config.upstream_timeout, connect=min(10.0, config.upstream_timeout)),
            limits=httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency),
            follow_redirects=False,
        )

    @property
    def concurrency(self) -> int:
        """As configured, over all jobs."""
        return self._concurrency

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request; what the upstream does not know is put as a chat completion."""
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
            # Only an answer here shows that it was the path that the upstream did not know.
            self._lacks_responses = True
            logger.info("upstream.lacks_responses")
        return from_chat(chat, body, wire)

    async def _post(self, path: str, body: Json) -> Json:
        content = orjson.dumps(body)
        give_up_at = time.monotonic() + self._patience
        attempt = 0
        while True:
            outcome = await self._once(path, content)
            if not isinstance(outcome, _Trouble):
                return outcome
            attempt += 1
            pause = self._pause(attempt, outcome)
            if (outcome.bounded and attempt >= SERVER_ERROR_ATTEMPTS) or time.monotonic() + pause > give_up_at:
                raise RequestFailed(outcome.code, outcome.message)
            logger.info("upstream.retried", code=outcome.code, attempt=attempt, pause=round(pause, 2))
            await asyncio.sleep(pause)

    def _pause(self, attempt: int, trouble: _Trouble) -> float:
        spread = random.uniform(0.5, 1.0)  # noqa: S311 - so that many requests do not come back at once
        pause = min(self._backoff * 2.0 ** min(attempt - 1, 16), MAX_PAUSE) * spread
        return max(pause, min(trouble.pause or 0.0, MAX_PAUSE))

    async def _once(self, path: str, content: bytes) -> Json | _Trouble:
        """Ask once. Raises RequestFailed, BackendFailed and _NoEndpoint for what trying again can't mend."""
        try:
            reply = await self._client.post(path, content=content, headers={"content-type": "application/json"})
        except httpx.ConnectTimeout:
            return _Trouble("upstream_unreachable", "The upstream does not accept connections.", bounded=False)
        except httpx.TimeoutException:
            return _Trouble("upstream_timeout", "The upstream did not answer in time.", bounded=True)
        except httpx.ConnectError:
            return _Trouble("upstream_unreachable", "The upstream does not accept connections.", bounded=False)
        except httpx.TransportError as error:
            return _Trouble("upstream_unreachable", f"The upstream broke off: {type(error).__name__}.", bounded=True)
        if reply.is_success:
            return _answer_in(reply)
        failed = _failure_in(reply)
        if reply.status_code == 401:
            raise BackendFailed("upstream_unauthorized", f"The upstream does not accept the key: {failed.message}")
        if failed.code == "insufficient_quota":
            raise BackendFailed(failed.code, failed.message)
        if reply.status_code == 429:
            return _Trouble("rate_limit_exceeded", failed.message, bounded=False, pause=_retry_after(reply))
        if reply.status_code in _NO_SUCH_ENDPOINT:
            raise _NoEndpoint(failed)
        if reply.status_code == 408 or reply.status_code >= 500:
            return _Trouble("upstream_error", failed.message, bounded=True, pause=_retry_after(reply))
        raise failed


def _with_version(base_url: str) -> str:
    """The base URL up to and with /v1, whether it was given with it, with another path, or with none."""
    url = base_url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _is_private(base_url: str) -> bool:
    """Whether nobody on the way can read what is sent."""
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


def _answer_in(reply: httpx.Response) -> Json:
    value = _json_in(reply)
    if not isinstance(value, dict):
        raise RequestFailed("invalid_upstream_answer", "The upstream's answer is not a JSON object.")
    return value


def _failure_in(reply: httpx.Response) -> RequestFailed:
    """The error that an upstream reports: OpenAI's {"error": {...}}, vLLM's without the envelope, or none at all."""
    value = _json_in(reply)
    error = value.get("error", value) if isinstance(value, dict) else None
    fields = error if isinstance(error, dict) else {}
    message = fields.get("message") or (error if isinstance(error, str) else None) or reply.reason_phrase
    code = next(
        (fields[name] for name in ("code", "type") if isinstance(fields.get(name), str) and fields[name]),
        f"http_{reply.status_code}",
    )
    return RequestFailed(code, f"{message}"[:_MAX_MESSAGE])


def _json_in(reply: httpx.Response) -> Any:
    try:
        return orjson.loads(reply.content)
    except ValueError:
        return None


def _retry_after(reply: httpx.Response) -> float | None:
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None
