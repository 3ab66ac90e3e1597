"""How long a service may need to show everywhere what it did."""

from __future__ import annotations

from datetime import datetime

from runner.providers.protocol import RemoteBatch

CONSISTENCY_WINDOW = {"local": 0.0, "digitalocean": 600.0}
"""Seconds, by kind of provider, in which "no such batch" and "no results" may mean "not visible yet"."""


def may_lag(kind: str, moment: datetime | None, now: datetime) -> bool:
    """Return whether what it did at `moment` may not show yet."""
    return moment is not None and (now - moment).total_seconds() < CONSISTENCY_WINDOW[kind]


def results_settled(kind: str, remote: RemoteBatch, since: datetime | None, now: datetime) -> bool:
    """Return whether an ended batch must show all results. `since` replaces an unknown end."""
    return not may_lag(kind, remote.ended_at or since, now)
