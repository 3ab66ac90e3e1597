"""Durations as people write them: `90s`, `30m`, `24h`, `2d`. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_MAX_DAYS = 36_500


def parse_duration(text: str) -> timedelta:
    """Return the duration that a number and a unit (s, m, h or d) name. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhd])", text.strip(), re.ASCII)
    if match is None:
        raise ValueError(f"{text[:40]} is not a duration; write one such as 90s, 30m, 2h or 1d")
    found = timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    if found > timedelta(days=_MAX_DAYS):
        raise ValueError(f"{text[:40]} is longer than {_MAX_DAYS} days")
    return found
