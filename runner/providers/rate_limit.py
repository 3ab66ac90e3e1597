"""The account's rate limit, from response headers: delay calls that the service would refuse.

Responses carry `ratelimit-remaining` and `ratelimit-reset` (OpenAPI description). All threads of one client share the
state. Other processes learn it from their own responses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from runner.errors import ApiError
from runner.providers import logger
from runner.providers.http_errors import clock_of, until_reset
from runner.providers.retry import RetryPolicy


class RateLimiter:
    """Delays calls until the announced reset. `now` is in seconds since 1970. Threads share it.

    The longest delay is `retry.max_retry_after` seconds. After a longer announcement the call is sent: a 429 decides.
    """

    def __init__(self, retry: RetryPolicy, now: Callable[[], float]) -> None:
        self._retry = retry
        self._now = now
        self._resume_at = 0.0
        self._guard = threading.Lock()

    def wait(self) -> None:
        """Wait, with jitter, until the next call may be sent."""
        with self._guard:
            seconds = self._resume_at - self._now()
        if 0.0 < seconds <= self._retry.max_retry_after:
            logger.info("ratelimit.waited", wait=round(seconds, 2))
            self._retry.sleep(self._retry.jitter(seconds))

    def update(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of a response."""
        if headers.get("ratelimit-remaining", "").strip() == "0":
            self._delay_until(until_reset(headers, clock_of(headers, self._now)))

    def on_error(self, error: ApiError) -> None:
        """Learn from an error's `retry_after`."""
        self._delay_until(getattr(error, "retry_after", None))

    def _delay_until(self, seconds: float | None) -> None:
        if seconds:
            with self._guard:
                self._resume_at = max(self._resume_at, self._now() + seconds)
