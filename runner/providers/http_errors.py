"""Maps HTTP failures to errors. Only this module knows httpx's exceptions.

Errors never show a key or a presigned URL's query. Their cause, httpx's exception, would quote keys and URLs, so those
are refused earlier.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from runner.base.retryable import is_out_of_money, is_queue_full
from runner.errors import (
    ApiError,
    Conflict,
    Malformed,
    NotFound,
    NotReady,
    OutOfMoney,
    ProviderError,
    QueueFull,
    RateLimited,
    Rejected,
    ServerError,
    Unauthorized,
    Unreachable,
)
from runner.providers.redact import redacted

HTTPX_ERRORS: tuple[tuple[type[Exception], type[ProviderError]], ...] = (
    # The first match counts. If the request may have had its effect, the error is Unreachable.
    (httpx.UnsupportedProtocol, Malformed),
    (httpx.TransportError, Unreachable),  # timeouts, broken connections, protocol errors, proxies
    (httpx.DecodingError, Malformed),
    (httpx.TooManyRedirects, Malformed),  # never followed, so never seen
    (httpx.HTTPStatusError, Malformed),  # `error_from_response` maps statuses instead
    (httpx.HTTPError, Unreachable),
    (httpx.InvalidURL, Malformed),
    (httpx.CookieConflict, Malformed),  # cookies are never kept
    (httpx.StreamError, Unreachable),
)
"""httpx's exceptions and the errors they become."""

_YEAR_2000 = 946_684_800
"""The Unix time of 1 January 2000."""
_TRANSIENT_CODES = frozenset({"RequestTimeout", "IncompleteBody", "BadDigest", "OperationAborted"})
"""4xx codes of S3 for a broken transfer (Amazon S3 API reference, error codes)."""
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,80}")
_S3_CODE = re.compile(r"<Code>([A-Za-z0-9_.-]{1,80})</Code>")


@contextlib.contextmanager
def map_httpx_errors(what: str) -> Iterator[None]:
    """Raise httpx's exceptions as ProviderError. `what` has no secrets."""
    try:
        yield
    except Exception as exc:
        kind = next((mapped for httpx_type, mapped in HTTPX_ERRORS if isinstance(exc, httpx_type)), None)
        if kind is None:
            raise
        reason = redacted(str(exc), limit=200)
        name = type(exc).__name__
        raise kind(f"{what}: {name}: {reason}" if reason else f"{what}: {name}") from exc


def error_from_response(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    what: str,
    *,
    hide: tuple[str, ...],
    now: Callable[[], float],
    key_hint: str = "",
) -> ApiError:
    """Return a response's error.

    It quotes a JSON body's message, without the texts in `hide`.
    """
    fields = _error_fields(body)
    code = _code(fields)
    # The message is quoted after a colon, the id only where there is no message.
    reason = redacted(_message(fields), hide) or code
    request_id = redacted(_string(fields.get("request_id")) or headers.get("x-request-id", ""), hide, 100)
    text = f"{what}: {status} {reason}" if reason else f"{what}: {status}"
    if request_id:
        text = f"{text} (request {request_id})"
    details: dict[str, Any] = {"status": status, "error_id": code, "request_id": request_id}
    if status < httpx.codes.INTERNAL_SERVER_ERROR:
        if status == httpx.codes.PAYMENT_REQUIRED or is_out_of_money(code, reason):
            return OutOfMoney(text, **details)
        if is_queue_full(code, reason):
            return QueueFull(text, retry_after=retry_after(status, headers, now), **details)
    return _by_status(status, text, code, request_id, retry_after(status, headers, now), key_hint)


def storage_error_from_response(
    status: int, headers: Mapping[str, str], body: bytes, what: str, *, now: Callable[[], float]
) -> ApiError:
    """Return the error of a presigned URL's response.

    It shows the code only: messages quote the signed request.
    """
    found = _S3_CODE.search(body[:10_000].decode("utf-8", "replace"))
    fields = _error_fields(body)
    code = found[1] if found else _identifier(fields.get("id")) or _identifier(fields.get("code"))
    text = f"{what}: {status} {code}" if code else f"{what}: {status}"
    request_id = redacted(headers.get("x-amz-request-id", ""), (), 100)
    if code in _TRANSIENT_CODES:
        return ServerError(text, status=status, error_id=code, request_id=request_id)
    if code == "ExpiredToken":  # a 400 with the meaning of a 403
        return Unauthorized(text, status=status, error_id=code, request_id=request_id)
    if code == "EntityTooLarge":
        return Rejected(text, status=status, error_id=code, request_id=request_id)
    return _by_status(status, text, code, request_id, retry_after(status, headers, now))


def retry_after(status: int, headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """Return the seconds that a response asks to wait.

    `Retry-After` is seconds or a date (RFC 9110, 10.2.3).
    """
    clock = clock_of(headers, now)
    value = headers.get("retry-after", "").strip()
    if value:
        if value.isascii() and value.isdigit() and len(value) < 10:
            return float(value)
        with contextlib.suppress(ValueError, OverflowError):
            date = parsedate_to_datetime(value)
            return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - clock)
    return until_reset(headers, clock) if status == httpx.codes.TOO_MANY_REQUESTS else None


def until_reset(headers: Mapping[str, str], clock: float) -> float | None:
    """Return the seconds from `clock` to `ratelimit-reset`.

    DigitalOcean sends the Unix time when the oldest request expires (OpenAPI description), gateways seconds (IETF
    draft).
    """
    reset = headers.get("ratelimit-reset", "").strip()
    if not (reset.isascii() and reset.isdigit() and len(reset) < 16):
        return None
    return float(reset) if int(reset) < _YEAR_2000 else max(0.0, int(reset) - clock)


def clock_of(headers: Mapping[str, str], now: Callable[[], float]) -> float:
    """Return the service's Unix time, else this machine's."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else now()
    except (ValueError, OverflowError):
        return now()


def _error_fields(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode("utf-8", "replace").strip()
        return {} if text.startswith("<") else {"message": text}
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {}
    # OpenAI's dialect nests the fields under `error`, FastAPI under `detail`.
    nested = (value.get(name) for name in ("error", "detail", "errors"))
    inner = (found[0] if isinstance(found, list) and found else found for found in nested)
    whole = next((found for found in inner if isinstance(found, dict)), None)
    return value if whole is None or "message" in value else whole


def _code(fields: Mapping[str, Any]) -> str:
    """Return the error's code. A `type` that means missing credit wins."""
    kind, code = _identifier(fields.get("type")), _identifier(fields.get("id")) or _identifier(fields.get("code"))
    return kind if is_out_of_money(kind, "") and not is_out_of_money(code, "") else code or kind


def _message(fields: Mapping[str, Any]) -> str:
    names = ("message", "msg", "detail", "error", "error_message", "error_description", "reason", "title")
    return next((text for name in names if isinstance(text := fields.get(name), str) and text.strip()), "")


def _identifier(value: object) -> str:
    return value if isinstance(value, str) and _IDENTIFIER.fullmatch(value) else ""


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _by_status(status: int, text: str, code: str, request_id: str, wait: float | None, key_hint: str = "") -> ApiError:
    match status:
        case 401:
            hint = key_hint or "the key is missing or wrong"
            return Unauthorized(text, status=status, error_id=code, request_id=request_id, hint=hint)
        case 403:
            hint = "the key has no permission for this, or a presigned URL has expired"
            return Unauthorized(text, status=status, error_id=code, request_id=request_id, hint=hint)
        case 404 | 410:  # 410 means that it existed; batchspec treats both alike
            return NotFound(text, status=status, error_id=code, request_id=request_id)
        case 409:
            return Conflict(text, status=status, error_id=code, request_id=request_id)
        case 412:
            return NotReady(text, status=status, error_id=code, request_id=request_id)
        case 400 | 413 | 422:
            return Rejected(text, status=status, error_id=code, request_id=request_id)
        case 429:
            return RateLimited(text, status=status, error_id=code, request_id=request_id, retry_after=wait)
        # A gateway's 408 may come after the request got through, like a 5xx.
        case _ if status == httpx.codes.REQUEST_TIMEOUT or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return ServerError(text, status=status, error_id=code, request_id=request_id, retry_after=wait)
        case _ if 300 <= status < 400:
            hint = "batchspec never follows redirects: they could leak a key or a prompt. Check the base URL"
            return ApiError(text, status=status, error_id=code, request_id=request_id, hint=hint)
        case _:
            return ApiError(text, status=status, error_id=code, request_id=request_id)
