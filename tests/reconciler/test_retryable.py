"""Which errors may pass: what the spec says, else sensible defaults, which stand in the docs."""

from __future__ import annotations

import pytest

from runner.base.retryable import RETRYABLE, is_retryable
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    "code",
    [
        "rate_limit_exceeded",
        "rate_limit_error",
        "server_error",
        "overloaded_error",
        "timeout",
        "batch_expired",
        "http_503",
    ],
)
def test_what_passes(code: str) -> None:
    """Rate limits, errors of the server, timeouts, expiry."""
    assert is_retryable(code, None)


@pytest.mark.parametrize(
    "code",
    [
        "context_length_exceeded", "content_policy_violation", "content_filter", "invalid_request_error", "invalid_prompt",
        "insufficient_quota", "model_not_found", "invalid", "http_400", "http_401", "http_422", "unknown_error",
    ],
)  # fmt: skip
def test_what_never_will(code: str) -> None:
    """Context length, content policy, invalid requests, and what nobody knows: asking again would only cost."""
    assert not is_retryable(code, None)


def test_a_specs_own_list_stands_in_place_of_the_defaults() -> None:
    assert is_retryable("content_filter", ["content_filter"])
    assert not is_retryable("server_error", ["content_filter"])
    assert not any(is_retryable(code, []) for code in RETRYABLE)


def test_the_defaults_stand_in_the_docs() -> None:
    text = (REPOSITORY / "docs/spec.md").read_text(encoding="utf-8")
    assert [code for code in sorted(RETRYABLE) if f"`{code}`" not in text] == []
