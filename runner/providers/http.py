"""JSON calls to a batch API: one key, one base URL, bounded responses.

Only the base URL receives the key: redirects and cookies are ignored. Loopback uses no proxy. Others follow httpx
(`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`); over https a proxy sees neither key nor prompts.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import orjson

from runner.errors import Malformed, ProviderError, TrustError, Unreachable
from runner.jobspec.trust import is_loopback
from runner.providers.http_errors import error_from_response, map_httpx_errors
from runner.providers.rate_limit import RateLimiter
from runner.providers.retry import RetryPolicy

MAX_ERROR_BODY = 64_000
"""Bytes that are read of an error's body."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Reading limits, in bytes and seconds.

    `answer` is the longest JSON response; 100 batches have about 100 kB. `answer_time` bounds a whole body. `file`:
    50,000 answers of a million characters.
    """

    answer: int = 16_000_000
    answer_time: float = 300.0
    file: int = 50_000_000_000
    connect: float = 15.0
    read_timeout: float = 60.0
    transfer_timeout: float = 120.0


USUAL = Limits()


class TooLong(Malformed):
    """A response longer than the limit."""


Now = Callable[[], float]
"""Returns seconds since 1970."""


class Http:
    """Calls to one API with one key, for all threads.

    Raises TrustError if no header can carry the key, Malformed for an invalid base URL; methods raise ProviderError.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        retry: RetryPolicy,
        now: Now = time.time,
        limits: Limits = USUAL,
        key_hint: str = "",
    ) -> None:
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            # httpx's error would quote the whole header.
            raise TrustError(
                "the access key contains characters that no key has (spaces, line ends or non-ASCII)", code="BS306"
            )
        base = _base(base_url)
        self.base_url = str(base).rstrip("/")
        self.loopback = is_loopback(base.host)
        self._key = key
        self._key_hint = key_hint
        self._retry = retry
        self._now = now
        self._limits = limits
        self._rate_limit = RateLimiter(retry, now)
        self._client = new_client(base, read_timeout=limits.read_timeout, connect=limits.connect)

    def __repr__(self) -> str:
        return f"Http({self.base_url!r})"

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        """Return a GET's JSON. Retries transient errors."""
        return self._with_retries(lambda: self._once("GET", path, params=params))

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        on_lost: Callable[[ProviderError], None] | None = None,
    ) -> Any:
        """Return a repeatable POST's JSON. `on_lost` receives retried errors."""
        return self._with_retries(lambda: self._once("POST", path, body=body), on_lost)

    def post_once(self, path: str, body: Mapping[str, Any], *, hide: tuple[str, ...] = ()) -> Any:
        """Return a POST's JSON, sent exactly once. Errors omit `hide`."""
        return self._once("POST", path, body=body, hide=hide)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _with_retries(self, call: Callable[[], Any], on_lost: Callable[[ProviderError], None] | None = None) -> Any:
        tried = 0
        while True:
            tried += 1
            try:
                return call()
            except ProviderError as error:
                seconds = self._retry.next_delay(error, tried)
                if seconds is None:
                    raise
                if on_lost is not None:
                    on_lost(error)
                self._retry.log_and_sleep("request.retried", error, tried, seconds)

    def _once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        hide: tuple[str, ...] = (),
    ) -> Any:
        what = f"{method} {self.base_url}{path}"
        headers = {"Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = orjson.dumps(body)
        self._rate_limit.wait()
        with (
            map_httpx_errors(what),
            self._client.stream(
                method, f"{self.base_url}{path}", params=params, content=content, headers=headers
            ) as response,
        ):
            self._rate_limit.update(response.headers)
            if response.is_success:
                answer = _read(response, self._limits, what)
            else:
                error = error_from_response(
                    response.status_code,
                    response.headers,
                    read_start(response, MAX_ERROR_BODY),
                    what,
                    hide=(self._key, *hide),
                    now=self._now,
                    key_hint=self._key_hint,
                )
                self._rate_limit.on_error(error)
                raise error
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as exc:
            raise Malformed(f"{what}: the response ({response.status_code}, {len(answer)} bytes) is not JSON") from exc


def new_client(target: httpx.URL, *, read_timeout: float, connect: float) -> httpx.Client:
    """Return a client without redirects and cookies.

    Raises Unreachable for unusable proxy or certificate settings.
    """
    trust_env = not is_loopback(target.host)
    try:
        return httpx.Client(
            trust_env=trust_env,
            # Loading the certificate authorities takes 30 ms or more; without TLS, trust none.
            verify=True if target.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            follow_redirects=False,
            timeout=httpx.Timeout(read_timeout, connect=connect),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # No compression: offsets and lengths must match the stored file.
            headers={"User-Agent": "batchspec", "Accept-Encoding": "identity"},
        )
    except (ValueError, ImportError, OSError) as exc:
        # Show no part of the setting: a proxy URL may hold a password.
        raise Unreachable(
            "cannot use the environment's proxy or certificate settings",
            hint="check HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
        ) from (None if isinstance(exc, ValueError) else exc)


def read_start(response: httpx.Response, limit: int) -> bytes:
    """Return an error body's first bytes, even if it breaks."""
    start = bytearray()
    try:
        for piece in response.iter_bytes():
            start += piece
            if len(start) >= limit:
                break
    except (httpx.HTTPError, httpx.StreamError):
        pass
    return bytes(start[:limit])


def _base(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise Malformed("the base URL is not a URL") from None
    if base.scheme not in {"http", "https"} or not base.host:
        raise Malformed("the base URL must start with https:// (http:// on this machine) and name a host")
    if base.userinfo or base.query or base.fragment:
        raise Malformed(f"the base URL for {base.host} must be scheme, host, port and path only")
    return base


def _read(response: httpx.Response, limits: Limits, what: str) -> bytes:
    body = bytearray()
    until = time.monotonic() + limits.answer_time
    for piece in response.iter_bytes():
        body += piece
        if len(body) > limits.answer:
            raise TooLong(f"{what}: the response is longer than {limits.answer} bytes")
        if time.monotonic() > until:
            raise Unreachable(f"{what}: the response did not end within {limits.answer_time:.0f} s")
    return bytes(body)
