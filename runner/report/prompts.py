"""A request's prompt for people."""

from __future__ import annotations

from typing import Any

import orjson


def key_and_prompt(line: bytes) -> tuple[str, str]:
    """Return a request line's key and prompt: system text and turns, separated by empty lines."""
    request = orjson.loads(line)
    body: dict[str, Any] = request.get("params") or request["body"]
    system = body.get("system") or body.get("instructions")
    listed = body.get("messages") or body.get("input") or []
    parts = [system] if isinstance(system, str) else []
    parts += [listed] if isinstance(listed, str) else [_content(message) for message in listed]
    return request["custom_id"], "\n\n".join(part for part in parts if part)


def _content(message: dict[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else orjson.dumps(content).decode()
