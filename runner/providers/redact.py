"""Make foreign text safe to show."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "[hidden]"

_URL_QUERY = re.compile(r"(https?://[^\s?#\"'<>]+)[?#][^\s\"'<>]*", re.IGNORECASE)


def shown(text: str, limit: int = 500) -> str:
    """Return one line of `limit` characters, without control characters."""
    cut = text[: limit + 1]
    clean = "".join(c if c.isprintable() else " " for c in cut)
    return clean if len(cut) <= limit else clean[: limit - 1] + "…"


def redacted(text: str, secrets: Iterable[str] = (), limit: int = 500) -> str:
    """Return `shown` text without `secrets` and URL queries."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN)
    return shown(_URL_QUERY.sub(rf"\1?{HIDDEN}", text[: 4 * limit]), limit)
