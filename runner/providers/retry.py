"""When a request is sent again, and after how long. The decision only: sending is the caller's.

stamina is not used: its sleep can't be handed in, and its switch and log hook are one for the whole process, which a
program that uses this package as a library may have set otherwise.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.errors import ProviderError, RateLimited, ServerError, Unreachable
from runner.providers import logger

Sleep = Callable[[float], None]
"""Waits for so many seconds. It may raise to end the waiting: that goes through to the caller."""

TRANSIENT = (Unreachable, ServerError, RateLimited)
"""Troubles that may be over at the next try."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. Times are in seconds.

    `tries` counts the first one. Waits double from `first` to `longest`, each cut at random to between a half and the
    whole, so that many workers don't come back at the same moment. What the service asks for (`Retry-After`,
    `ratelimit-reset`) is waited for where it is longer, and up to a tenth more for the same reason. Where it asks for
    more than `asked` the error is raised at once, with the number in it, and the caller decides.
    """

    tries: int = 5
    base_delay: float = 0.5
    max_delay: float = 20.0
    max_retry_after: float = 90.0
    sleep: Sleep = time.sleep
    rng: Callable[[], float] = random.random

    def next_delay(self, error: ProviderError, attempt: int) -> float | None:
        """The seconds to wait after try number `attempt` (from 1) failed with `error`; None to give up."""
        if attempt >= self.tries:
            return None
        return self.delay(error, attempt)

    def delay(self, error: ProviderError, attempt: int) -> float | None:
        """As `wait`, without a limit of tries: None only where trying again can't help, or would take too long."""
        if not isinstance(error, TRANSIENT):
            return None
        wanted: float | None = getattr(error, "retry_after", None)
        if wanted is not None and wanted > self.max_retry_after:
            return None
        return max(self.backoff(attempt), self.jitter(wanted or 0.0))

    def backoff(self, attempt: int) -> float:
        """The seconds to wait after try number `attempt` (from 1) where nobody asks for more."""
        # The exponent is limited because a float is.
        longest = min(self.max_delay, self.base_delay * 2.0 ** min(attempt - 1, 30))
        return longest * (0.5 + 0.5 * self.rng())

    def jitter(self, seconds: float) -> float:
        """`seconds`, or up to a tenth more, so that those who were told the same don't come at the same moment."""
        return seconds * (1.0 + 0.1 * self.rng())

    def log_and_sleep(self, event: str, error: ProviderError, attempt: int, seconds: float) -> None:
        """Log that something is attempt again, and wait."""
        logger.info(event, tried=attempt, wait=round(seconds, 2), reason=error.message)
        self.sleep(seconds)
