"""Where the service over a data folder listens, as it has left it there."""

from __future__ import annotations

from pathlib import Path

URL_FILE = "url"
"""Within a data folder: where the service that runs over it listens. Gone when it stopped; stale after a crash."""


def running_url(data: Path) -> str | None:
    """Where the service over a data folder says it listens. After a crash it may no longer be true."""
    try:
        return (data / URL_FILE).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
