"""The account's rate limit, as far as the service tells it: a call that it would refuse is held back instead.

Answers carry `ratelimit-remaining` and `ratelimit-reset` (OpenAPI description). What one thread is told holds for all
that share the gate; other processes of the same account learn it from their own answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from runner.errors import ApiError
from runner.providers import logger
from runner.providers.http_errors import clock_of, until_reset
from runner.providers.retry import RetryPolicy


class RateLimiter:
    """Opened and closed by what answers say. `now` is in seconds since 1970. Threads share it.

    It holds a call for `retry.max_retry_after` seconds at most. After a longer announcement it lets the call go:
    whether that is meant is for the service to say, by a 429.
    """

    def __init__(self, retry: RetryPolicy, now: Callable[[], float]) -> None:
        self._retry = retry
        self._now = now
        self._closed_until = 0.0
        self._guard = threading.Lock()

    def wait(self) -> None:
        """Wait until a call may go, with some jitter."""
        with self._guard:
            seconds = self._closed_until - self._now()
        if 0.0 < seconds <= self._retry.max_retry_after:
            logger.info("ratelimit.waited", wait=round(seconds, 2))
            self._retry.sleep(self._retry.jitter(seconds))

    def update(self, headers: Mapping[str, str]) -> None:
        """Take in the headers of an answer."""
        if headers.get("ratelimit-remaining", "").strip() == "0":
            self._close(until_reset(headers, clock_of(headers, self._now)))

    def on_error(self, error: ApiError) -> None:
        """Take in a refusal that may say when to come back."""
        self._close(getattr(error, "retry_after", None))

    def _close(self, seconds: float | None) -> None:
        if seconds:
            with self._guard:
                self._closed_until = max(self._closed_until, self._now() + seconds)
