"""Tokens of one response, as counted in OpenAI's and Anthropic's fields.

OpenAI's input tokens include cached ones. Anthropic's exclude tokens written to or read from a cache
(platform.claude.com/docs/en/build-with-claude/prompt-caching, "Tracking cache performance").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_TOKENS = 1_000_000_000
"""More tokens in one response are a mistake of the service and not counted."""
_DETAILS = ("prompt_tokens_details", "input_tokens_details")


class Tokens(NamedTuple):
    """Tokens of one response; None without a usable count.

    written, written_hour: written to a cache, and those kept for an hour instead of five minutes.
    odd: a count is invalid, or they do not add up.
    """

    input: int | None = None
    output: int | None = None
    cached: int | None = None
    written: int | None = None
    written_hour: int | None = None
    odd: bool = False

    @property
    def billed(self) -> bool:
        """Whether the service counts any token."""
        return any((self.input, self.output, self.cached, self.written))


ROW_FIELDS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens")
"""Fields of `usage` in an output row, in the order of `Tokens`. The last two only if not 0."""


class _Counts:
    def __init__(self) -> None:
        self.odd = False

    def first(self, usage: Mapping[str, Any], *names: str) -> int | None:
        found = None
        for name in names:
            value = usage.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
                found = value if found is None else found
            elif value is not None:
                self.odd = True
        return found


def tokens_of(usage: object) -> Tokens:
    """Return the tokens in a response's `usage`."""
    if usage is None:
        return Tokens()
    if not isinstance(usage, dict):
        return Tokens(odd=True)
    counts = _Counts()
    given = counts.first(usage, "prompt_tokens", "input_tokens")
    taken = counts.first(usage, "completion_tokens", "output_tokens")
    total = counts.first(usage, "total_tokens")
    details = [inner for name in _DETAILS if isinstance(inner := usage.get(name), dict)]
    cached_within = _first(counts.first(inner, "cached_tokens") for inner in details)
    written_within = _first(counts.first(inner, "cache_write_tokens") for inner in details)
    cached_besides = counts.first(usage, "cache_read_input_tokens", "cached_tokens")
    written, hour = _written(counts, usage)
    odd = (
        counts.odd
        or (total is not None and total != (given or 0) + (taken or 0))
        or (cached_within or 0) + (written_within or 0) > (given or 0)
    )
    return Tokens(
        given,
        taken,
        cached_besides if cached_within is None else cached_within,
        written if written_within is None else written_within,
        hour,
        odd,
    )


def tokens_of_row(usage: object) -> Tokens:
    """Return the tokens in an output row's `usage`."""
    if not isinstance(usage, dict):
        return Tokens()
    counts = _Counts()
    given, taken, cached, written, hour = (counts.first(usage, name) for name in ROW_FIELDS)
    return Tokens(given, taken, cached, written, hour)


def row_usage(tokens: Tokens) -> dict[str, int | None]:
    """Return `usage` for an output row."""
    found = zip(ROW_FIELDS, tokens, strict=False)
    return {name: count for name, count in found if count or not name.startswith("cache_write")}


def _written(counts: _Counts, usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    written = counts.first(usage, "cache_creation_input_tokens")
    parts = usage.get("cache_creation")
    if not isinstance(parts, dict):
        return written, None
    minutes = counts.first(parts, "ephemeral_5m_input_tokens")
    hour = counts.first(parts, "ephemeral_1h_input_tokens")
    if minutes is None and hour is None:
        return written, None
    both = (minutes or 0) + (hour or 0)
    counts.odd |= written is not None and written != both
    return max(both, written or 0), hour


def _first(found: Any) -> int | None:
    return next((one for one in found if one is not None), None)
