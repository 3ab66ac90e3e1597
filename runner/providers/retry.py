"""Decides whether and when to retry.

stamina's sleep can't be injected; its hooks are global.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import ProviderError, RateLimited, ServerError, Unreachable
from runner.providers import logger

Sleep = Callable[[float], None]
"""Waits for so many seconds. It may raise to stop the caller."""

TRANSIENT = (Unreachable, ServerError, RateLimited)
"""Errors that may be gone at the next attempt."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to retry. Times in seconds.

    Delays double from `base_delay` to `max_delay`, times 0.5 to 1. A longer requested delay applies up to
    `max_retry_after`; beyond, the error is raised at once.
    """

    tries: int = 5
    base_delay: float = 0.5
    max_delay: float = 20.0
    max_retry_after: float = 90.0
    sleep: Sleep = time.sleep
    rng: Callable[[], float] = random.random

    def next_delay(self, error: ProviderError, attempt: int) -> float | None:
        """Return the delay after `attempt` (from 1); None to give up."""
        if attempt >= self.tries:
            return None
        return self.delay(error, attempt)

    def delay(self, error: ProviderError, attempt: int) -> float | None:
        """Return the delay without a limit of attempts."""
        if not isinstance(error, TRANSIENT):
            return None
        requested: float | None = getattr(error, "retry_after", None)
        if requested is not None and requested > self.max_retry_after:
            return None
        return max(self.backoff(attempt), self.jitter(requested or 0.0))

    def backoff(self, attempt: int) -> float:
        """Return our own delay."""
        # Limit the exponent: a float overflows.
        delay = min(self.max_delay, self.base_delay * 2.0 ** min(attempt - 1, 30))
        return delay * (0.5 + 0.5 * self.rng())

    def jitter(self, seconds: float) -> float:
        """Add up to a tenth, to spread clients."""
        return seconds * (1.0 + 0.1 * self.rng())

    def log_and_sleep(self, event: str, error: ProviderError, attempt: int, seconds: float) -> None:
        """Log a retry, and wait."""
        logger.info(event, tried=attempt, wait=round(seconds, 2), reason=error.message)
        self.sleep(seconds)
