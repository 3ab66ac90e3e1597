"""Facts about models."""

from __future__ import annotations

import functools
import re


def bare_model(model: str) -> str:
    """Remove the vendor (`openai-gpt-4o`, `anthropic/claude-…`)."""
    return re.sub(r"^(openai|anthropic)[-/]", "", model.lower())


@functools.cache
def context_window(model: str, line_format: str) -> int | None:
    """Return a model's tokens for input and output together."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  it takes a quarter of a second to import

    vendor = "anthropic" if line_format == "anthropic" else "openai"
    try:
        _, found = get_snapshot().find_provider_model(bare_model(model), None, vendor, None)
    except LookupError:
        return None
    return found.context_window
