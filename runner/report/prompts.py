"""What a request asks, as text for people."""

from __future__ import annotations

from typing import Any

import orjson


def prompt_text(body: bytes) -> str:
    """What a request asks, for people: the system text, if any, and the user's, with a line between."""
    request = orjson.loads(body)
    system = request.get("system") or request.get("instructions")
    listed = request.get("messages") or request.get("input") or []
    parts = [system] if isinstance(system, str) else []
    parts += [listed] if isinstance(listed, str) else [_content(message) for message in listed]
    return "\n\n".join(part for part in parts if part)


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else orjson.dumps(content).decode()
