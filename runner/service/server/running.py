"""The file in a data folder with the URL of its running service."""

from __future__ import annotations

from pathlib import Path

URL_FILE = "url"
"""The file's name. The service deletes it when it stops; after a crash it is stale."""


def running_url(data: Path) -> str | None:
    """Return a running service's URL, stale after a crash."""
    try:
        return (data / URL_FILE).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
