"""How long a service may need until it shows everywhere what it did. Every question about that is answered here."""

from __future__ import annotations

from datetime import datetime

from runner.providers.protocol import RemoteBatch

CONSISTENCY_WINDOW = {"local": 0.0, "digitalocean": 600.0}
"""Seconds by kind of provider. Within them, "no such batch" and "no results" may only mean "not shown here yet"."""


def may_lag(kind: str, moment: datetime | None, now: datetime) -> bool:
    """Return whether the service may not show everywhere yet what it did at `moment`; False if that is unknown."""
    return moment is not None and (now - moment).total_seconds() < CONSISTENCY_WINDOW[kind]


def results_settled(kind: str, remote: RemoteBatch, since: datetime | None, now: datetime) -> bool:
    """Return whether an ended batch must show all its results by now.

    `since` replaces the time of its end if the service does not give one.
    """
    return not may_lag(kind, remote.ended_at or since, now)
