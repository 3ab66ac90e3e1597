"""JSON calls to a batch API over HTTP: one key, one base URL, bounded answers, errors of `runner.errors`.

What is sent and what the answers mean is not known here. The key goes to the base URL and nowhere else: redirects are
not followed, cookies are not kept. On loopback no proxy of the environment is used; for other hosts httpx's own rules
hold (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`), and over https a proxy sees neither key nor prompts.
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
"""Bytes of an error's body that are read."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read of a service, and how long it may be silent. Sizes are in bytes, times in seconds.

    `answer` is the longest JSON answer; a page of 100 batches has about 100 kB. `answer_time` is what the body of one
    may take in all; without it, one byte a minute would hold a caller for days. `file` is the longest result file as
    it stands on disk: 50,000 answers of a million characters each. `connect` is for connecting, `read_timeout` and
    `transfer_timeout` for each pause while sending or reading, in calls and in uploads and downloads.
    """

    answer: int = 16_000_000
    answer_time: float = 300.0
    file: int = 50_000_000_000
    connect: float = 15.0
    read_timeout: float = 60.0
    transfer_timeout: float = 120.0


USUAL = Limits()


class TooLong(Malformed):
    """An answer that is longer than is read."""


Now = Callable[[], float]
"""Seconds since 1970."""


class Http:
    """Calls to one API with one key.

    `key_hint` says what to do where the key is refused.

    Raises TrustError where the key can't be part of a header, and Malformed where the base URL is not one. Every call
    raises ProviderError. Threads may share it.
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
            # httpx would quote the whole header in its error.
            raise TrustError(
                "the access key holds characters that no key has (spaces, line ends or non-ASCII)", code="BS306"
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
        """The JSON of a GET, tried again after a passing trouble."""
        return self._with_retries(lambda: self._once("GET", path, params=params))

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        on_lost: Callable[[ProviderError], None] | None = None,
    ) -> Any:
        """The JSON of a POST that may safely be sent twice: it is tried again after a passing trouble.

        `on_lost` is called with each trouble that a further try follows.
        """
        return self._with_retries(lambda: self._once("POST", path, body=body), on_lost)

    def post_once(self, path: str, body: Mapping[str, Any], *, hide: tuple[str, ...] = ()) -> Any:
        """The JSON of a POST that is sent exactly once. The texts in `hide` never show in an error."""
        return self._once("POST", path, body=body, hide=hide)

    def close(self) -> None:
        """Give back the connections."""
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
            raise Malformed(f"{what}: the answer ({response.status_code}, {len(answer)} bytes) is not JSON") from exc


def new_client(target: httpx.URL, *, read_timeout: float, connect: float) -> httpx.Client:
    """An httpx client for the scheme and the kind of host of `target`, that follows nothing and remembers nothing.

    Raises Unreachable where the environment's proxy or certificate settings can't be used.
    """
    trust_env = not is_loopback(target.host)
    try:
        return httpx.Client(
            trust_env=trust_env,
            # Loading the authorities takes 30 ms and more. Where no TLS is spoken nobody is trusted instead.
            verify=True if target.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            follow_redirects=False,
            timeout=httpx.Timeout(read_timeout, connect=connect),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # Bytes as they are: offsets and lengths are about what is stored.
            headers={"User-Agent": "batchspec", "Accept-Encoding": "identity"},
        )
    except (ValueError, ImportError, OSError) as exc:
        # No part of the setting is shown: a proxy URL may hold a password.
        raise Unreachable(
            "the proxy or certificate settings of the environment can't be used",
            hint="look at HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR",
        ) from (None if isinstance(exc, ValueError) else exc)


def read_start(response: httpx.Response, limit: int) -> bytes:
    """The first `limit` bytes of a body, or what comes before it breaks: for error answers, whose status counts."""
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
            raise TooLong(f"{what}: the answer is longer than {limits.answer} bytes")
        if time.monotonic() > until:
            raise Unreachable(f"{what}: the answer did not end within {limits.answer_time:.0f} s")
    return bytes(body)
