"""Delay calls that the rate limit would refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from runner.errors import ApiError
from runner.providers import logger
from runner.providers.http_errors import clock_of, until_reset
from runner.providers.retry import RetryPolicy


class RateLimiter:
    """Delays calls until the announced reset, for all threads.

    Waits at most `retry.max_retry_after` seconds; beyond, a 429 decides.
    """

    def __init__(self, retry: RetryPolicy, now: Callable[[], float]) -> None:
        self._retry = retry
        self._now = now
        self._resume_at = 0.0
        self._guard = threading.Lock()

    def wait(self) -> None:
        """Wait, with jitter, until a call may be sent."""
        with self._guard:
            seconds = self._resume_at - self._now()
        if 0.0 < seconds <= self._retry.max_retry_after:
            logger.info("ratelimit.waited", wait=round(seconds, 2))
            self._retry.sleep(self._retry.jitter(seconds))

    def update(self, headers: Mapping[str, str]) -> None:
        """Learn from response headers (OpenAPI description)."""
        if headers.get("ratelimit-remaining", "").strip() == "0":
            self._delay_until(until_reset(headers, clock_of(headers, self._now)))

    def on_error(self, error: ApiError) -> None:
        """Learn from `retry_after`."""
        self._delay_until(getattr(error, "retry_after", None))

    def _delay_until(self, seconds: float | None) -> None:
        if seconds:
            with self._guard:
                self._resume_at = max(self._resume_at, self._now() + seconds)
