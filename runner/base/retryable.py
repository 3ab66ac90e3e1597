"""Which errors are transient. docs/spec.md lists the codes under `retry`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import numpy.typing as npt

RETRYABLE = frozenset(
    {
        "api_error",
        "batch_cancelled",
        "batch_expired",
        "canceled",
        "cancelled",
        "expired",
        "internal_error",
        "internal_server_error",
        "no_response",
        "overloaded",
        "overloaded_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "request_timeout",
        "server_error",
        "service_unavailable",
        "timeout",
        "timeout_error",
        "upstream_error",
        "http_408",
        "http_429",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
        "http_529",
    }
)
"""Codes of OpenAI's and Anthropic's APIs and statuses for rate limits, server errors, timeouts and expiry. Any other
code is permanent: context length, content policy, invalid request."""


QUEUE_FULL = frozenset(
    {
        "batch_limit_exceeded",
        "batch_queue_full",
        "batch_rate_limit_exceeded",
        "enqueued_token_limit_exceeded",
        "enqueued_token_limit_reached",
        "enqueued_tokens_exceeded",
        "max_enqueued_tokens_exceeded",
        "queue_full",
        "too_many_batches",
        "token_limit_exceeded",
        "token_quota_exceeded",
    }
)
"""Codes for a full queue of the account. `token_limit_exceeded` is OpenAI's and Azure's (batch guides: "Enqueued token
limit reached")."""
BATCH_LIMITS = QUEUE_FULL | {"rate_limit_error", "rate_limit_exceeded", "too_many_requests", "http_429"}
"""Codes of a batch that failed because of such a limit. On a request they have their usual meaning."""
NO_MONEY = frozenset(
    {
        "account_deactivated",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "credit_balance_too_low",
        "insufficient_balance",
        "insufficient_credits",
        "insufficient_funds",
        "insufficient_quota",
        "payment_required",
    }
)
"""Codes for an account that can't pay (OpenAI's and Anthropic's error pages). Waiting does not help."""
_QUEUE_WORDS = re.compile(
    r"enqueued[ _-]token|token limit reached|queue (?:is|was) full|too many (?:\w+ ){0,2}batches", re.IGNORECASE
)
_MONEY_WORDS = re.compile(
    r"exceeded your current quota|billing hard limit|credit balance is too low"
    r"|insufficient (?:quota|credit|balance|funds)",
    re.IGNORECASE,
)
_GENERAL = frozenset({"", "bad_request", "invalid_request", "invalid_request_error", "unknown_error"})
"""Codes without a meaning: their message counts."""


def is_queue_full(code: str, message: str, *, of_batch: bool = False) -> bool:
    """Return whether an error means a full queue.

    `of_batch`: a rate limit is one of batches.
    """
    code = _snake(code)
    return code in (BATCH_LIMITS if of_batch else QUEUE_FULL) or (
        code in _GENERAL and _QUEUE_WORDS.search(message) is not None
    )


def is_out_of_money(code: str, message: str) -> bool:
    """Return whether an error means missing credit."""
    code = _snake(code)
    return code in NO_MONEY or (code in _GENERAL and _MONEY_WORDS.search(message) is not None)


def _snake(code: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code).replace("-", "_").lower()


PAID = frozenset({"invalid", "no_text"})
"""Codes of billed results. Only the spec's `retry.on` retries them."""
_SERVER_ERROR = "http_5"


class ErrorKind(IntEnum):
    """How an error came. With its code, decides about a retry."""

    REFUSED = 0
    """As an error: its code decides."""
    RETRYABLE = 1
    """With a transient status, or without any HTTP response."""
    EMPTY = 2
    """As a success without an answer and without tokens: its code decides."""
    BILLED = 3
    """As a success without an answer but with tokens: a retry would cost again."""


def is_retryable(code: str, on: Sequence[str] | None, kind: int = ErrorKind.REFUSED) -> bool:
    """Return whether to retry an error. `on` is the spec's list."""
    if kind == ErrorKind.BILLED:
        return code in PAID and code in (on or ())
    if on is not None:
        return code in on
    if code in RETRYABLE or (kind == ErrorKind.EMPTY and code.startswith(_SERVER_ERROR)):
        return True
    return kind == ErrorKind.RETRYABLE and not is_out_of_money(code, "")


def retryable_codes(codes: Sequence[str], on: Sequence[str] | None, kinds: Sequence[int] = ()) -> npt.NDArray[np.bool_]:
    """Return `is_retryable` for an index's codes. Number 0 is an answer."""
    whole = (*kinds, *(ErrorKind.REFUSED,) * (len(codes) - len(kinds)))
    return np.array([False, *(is_retryable(code, on, kind) for code, kind in zip(codes, whole, strict=True))], bool)
