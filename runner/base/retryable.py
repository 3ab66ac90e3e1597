"""Which errors may pass: of a request, of a batch that failed as a whole, of a create that was refused.

docs/spec.md lists the codes of requests under `retry`.
"""

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
"""Codes of OpenAI's and Anthropic's APIs and statuses that stand for rate limits, server errors, timeouts and expiry.
Any other code is taken for lasting: context length, content policy, invalid request."""


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
"""Codes that say that an account has too much in its queue. `token_limit_exceeded` is OpenAI's and Azure's
(batch guides: "Enqueued token limit reached")."""
BATCH_LIMITS = QUEUE_FULL | {"rate_limit_error", "rate_limit_exceeded", "too_many_requests", "http_429"}
"""Codes of a batch that failed as a whole because of such a limit. On a request they have their usual meaning."""
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
"""Codes that say that an account can't pay (OpenAI's and Anthropic's error pages). Waiting does not help."""
_QUEUE_WORDS = re.compile(
    r"enqueued[ _-]token|token limit reached|queue (?:is|was) full|too many (?:\w+ ){0,2}batches", re.IGNORECASE
)
_MONEY_WORDS = re.compile(
    r"exceeded your current quota|billing hard limit|credit balance is too low"
    r"|insufficient (?:quota|credit|balance|funds)",
    re.IGNORECASE,
)
_GENERAL = frozenset({"", "bad_request", "invalid_request", "invalid_request_error", "unknown_error"})
"""Codes that say nothing: the words that come with them count."""


def is_queue_full(code: str, words: str, *, of_batch: bool = False) -> bool:
    """Whether a code, or the words behind a code that says nothing, mean that the account's queue is full.

    `of_batch`: the batch failed as a whole, so a rate limit is one of batches.
    """
    code = _snake(code)
    return code in (BATCH_LIMITS if of_batch else QUEUE_FULL) or (
        code in _GENERAL and _QUEUE_WORDS.search(words) is not None
    )


def is_out_of_money(code: str, words: str) -> bool:
    """Whether a code, or the words behind a code that says nothing, mean that the account can't pay."""
    code = _snake(code)
    return code in NO_MONEY or (code in _GENERAL and _MONEY_WORDS.search(words) is not None)


def _snake(code: str) -> str:
    """Return a code in the spelling of the sets: `TokenLimitExceeded` and `token-limit-exceeded` are one."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code).replace("-", "_").lower()


PAID = frozenset({"invalid", "no_text"})
"""Codes of what was billed like an answer: asked again only if the spec's `retry.on` names them."""
_SERVER_ERROR = "http_5"


class ErrorKind(IntEnum):
    """How an error came, which decides with its code whether the request is asked again."""

    REFUSED = 0
    """As an error: its code decides."""
    RETRYABLE = 1
    """With a transient status, or without any HTTP answer."""
    EMPTY = 2
    """Under a success, without an answer, and with no token counted: its code decides."""
    BILLED = 3
    """Under a success, without an answer, and with tokens counted: the same request would be paid for again."""


def is_retryable(code: str, on: Sequence[str] | None, kind: int = ErrorKind.REFUSED) -> bool:
    """Whether a request with this error is asked again; `on` is the spec's own list, None for the defaults."""
    if kind == ErrorKind.BILLED:
        return code in PAID and code in (on or ())
    if on is not None:
        return code in on
    if code in RETRYABLE or (kind == ErrorKind.EMPTY and code.startswith(_SERVER_ERROR)):
        return True
    return kind == ErrorKind.RETRYABLE and not is_out_of_money(code, "")


def retryable_codes(codes: Sequence[str], on: Sequence[str] | None, kinds: Sequence[int] = ()) -> npt.NDArray[np.bool_]:
    """Return `is_retryable` of an index's codes by number. Number 0 is an answer; a missing kind is REFUSED."""
    whole = (*kinds, *(ErrorKind.REFUSED,) * (len(codes) - len(kinds)))
    return np.array([False, *(is_retryable(code, on, kind) for code, kind in zip(codes, whole, strict=True))], bool)
