"""Which error codes may pass when the request is asked again. docs/spec.md lists them under `retry`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

PASSING = frozenset(
    {
        "api_error",
        "batch_cancelled",
        "batch_expired",
        "canceled",
        "cancelled",
        "expired",
        "internal_error",
        "internal_server_error",
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


def may_pass(code: str, on: Sequence[str] | None) -> bool:
    """Whether a request with this error is asked again; `on` is the spec's own list, None for the defaults."""
    return code in (PASSING if on is None else on)


def passing_codes(codes: Sequence[str], on: Sequence[str] | None) -> npt.NDArray[np.bool_]:
    """`may_pass` for an index's codes, by their number; number 0 is an answer."""
    return np.array([False, *(may_pass(code, on) for code in codes)], bool)
