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

PASSING = (Unreachable, ServerError, RateLimited)
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
    first: float = 0.5
    longest: float = 20.0
    asked: float = 90.0
    sleep: Sleep = time.sleep
    chance: Callable[[], float] = random.random

    def wait(self, error: ProviderError, tried: int) -> float | None:
        """The seconds to wait after try number `tried` (from 1) failed with `error`; None to give up."""
        if tried >= self.tries:
            return None
        return self.pause(error, tried)

    def pause(self, error: ProviderError, tried: int) -> float | None:
        """As `wait`, without a limit of tries: None only where trying again can't help, or would take too long."""
        if not isinstance(error, PASSING):
            return None
        wanted: float | None = getattr(error, "retry_after", None)
        if wanted is not None and wanted > self.asked:
            return None
        return max(self.backoff(tried), self.spread(wanted or 0.0))

    def backoff(self, tried: int) -> float:
        """The seconds to wait after try number `tried` (from 1) where nobody asks for more."""
        # The exponent is limited because a float is.
        longest = min(self.longest, self.first * 2.0 ** min(tried - 1, 30))
        return longest * (0.5 + 0.5 * self.chance())

    def spread(self, seconds: float) -> float:
        """`seconds`, or up to a tenth more, so that those who were told the same don't come at the same moment."""
        return seconds * (1.0 + 0.1 * self.chance())

    def rest(self, event: str, error: ProviderError, tried: int, seconds: float) -> None:
        """Log that something is tried again, and wait."""
        logger.info(event, tried=tried, wait=round(seconds, 2), reason=error.message)
        self.sleep(seconds)
