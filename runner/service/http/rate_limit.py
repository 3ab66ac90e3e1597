"""Rate limits over sliding windows, in memory only."""

from __future__ import annotations

import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from runner.errors import ServiceError
from runner.http_server.addresses import group

_WINDOWS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}
_LIMIT = re.compile(rf"([1-9]\d{{0,8}})/({'|'.join(_WINDOWS)})")


@dataclass(frozen=True, slots=True)
class Limit:
    """Calls allowed within a number of seconds."""

    calls: int
    seconds: float


GUESSES = "10/minute,100/hour"
"""Wrong tokens allowed for one address."""

DOCUMENTED = "250/minute,5000/hour"
"""The vendor's limits, from its API description."""


def parse(text: str) -> tuple[Limit, ...]:
    """Parse limits such as `250/minute,5000/hour`, or `off`. Raises ServiceError."""
    if text == "off":
        return ()
    found = [_LIMIT.fullmatch(part.strip()) for part in text.split(",")]
    if not all(found):
        raise ServiceError(
            f"{text!r} is no rate limit", hint=f"write it as {DOCUMENTED}, or off for none", code="BS704"
        )
    return tuple(Limit(int(match[1]), _WINDOWS[match[2]]) for match in found if match)


class Limiter:
    """Counts the calls of each account. For one thread."""

    def __init__(self, limits: tuple[Limit, ...], clock: Callable[[], float] = time.time) -> None:
        self._limits = limits
        self._clock = clock
        self._calls: dict[str, list[deque[float]]] = {}

    def count(self, account: str) -> tuple[bool, dict[str, str]]:
        """Count a call. Return whether it is within all limits, and the headers.

        They describe the widest window, or the one that refuses.
        """
        if not self._limits:
            return True, {}
        now = self._clock()
        windows = self._calls.setdefault(account, [deque() for _ in self._limits])
        for limit, calls in zip(self._limits, windows, strict=True):
            while calls and calls[0] <= now - limit.seconds:
                calls.popleft()
        full = [pair for pair in zip(self._limits, windows, strict=True) if len(pair[1]) >= pair[0].calls]
        if not full:
            for calls in windows:
                calls.append(now)
        limit, calls = max(full or zip(self._limits, windows, strict=True), key=lambda pair: pair[0].seconds)
        reset = calls[0] + limit.seconds
        headers = {
            "ratelimit-limit": f"{limit.calls}",
            "ratelimit-remaining": f"{limit.calls - len(calls)}",
            "ratelimit-reset": f"{ceil(reset)}",
        }
        if full:
            headers["retry-after"] = f"{max(ceil(reset - now), 1)}"
        return not full, headers


class Guesses:
    """Counts wrong tokens by address. For one thread.

    Forgets the oldest of more than `addresses`.
    """

    def __init__(
        self, limits: tuple[Limit, ...], clock: Callable[[], float] = time.time, addresses: int = 10_000
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._addresses = addresses
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def pause(self, address: str) -> float:
        """Return for how many seconds an address may not guess."""
        now = self._clock()
        wrong = self._wrong.get(group(address), ())
        return max(
            (wrong[-one.calls] + one.seconds - now for one in self._limits if len(wrong) >= one.calls), default=0
        )

    def count(self, address: str) -> None:
        """Remember a wrong token."""
        origin = group(address)
        wrong = self._wrong.setdefault(origin, deque(maxlen=max((one.calls for one in self._limits), default=0)))
        wrong.append(self._clock())
        self._wrong.move_to_end(origin)
        if len(self._wrong) > self._addresses:
            self._wrong.popitem(last=False)
