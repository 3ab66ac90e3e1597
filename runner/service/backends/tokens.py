"""Token counts of OpenAI's models, for the echo backend alone.

OpenAI's cookbook ("How to count tokens with tiktoken"): three tokens a message, its role, content and name, one more
for a name, and three for the answer. Tools, schemas and tool calls have no published rule: their JSON counts.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

import orjson

PER_MESSAGE = 3
PER_NAME = 1
PRIMING = 3

_FAMILIES = (
    (re.compile(r"gpt-4o|gpt-4\.1|chatgpt-4o"), "o200k_base"),
    (re.compile(r"gpt-4(-|$)|gpt-3\.5|gpt-35"), "cl100k_base"),
    # Assumed: all newer models use it so far.
    (re.compile(r"gpt-[5-9]|gpt-4\.|gpt-oss|o[1-9](-|$)"), "o200k_base"),
)
_BEYOND_TEXT = ("tools", "functions", "response_format", "text")
_FIXED = ("system", "developer")
_CHUNK = 50_000
"""Characters a call of the tokenizer, which refuses texts of more than 200,000 tokens."""


class _Encoding(Protocol):
    def encode_ordinary(self, text: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...


class Tokenizer:
    """Counts and cuts texts for a family of models."""

    def __init__(self, encoding: _Encoding) -> None:
        self._encoding = encoding
        # Caches roles and the system message, which most requests of a job share.
        self._count_again = functools.lru_cache(maxsize=64)(self.count)

    def count(self, text: str) -> int:
        """Return a text's tokens."""
        return sum(len(self._encoding.encode_ordinary(piece)) for piece in _pieces(text))

    def cut(self, text: str, limit: int) -> str:
        """Return a text's first `limit` tokens. A split character becomes U+FFFD."""
        kept: list[int] = []
        for piece in _pieces(text):
            kept += self._encoding.encode_ordinary(piece)
            if len(kept) >= limit:
                break
        return self._encoding.decode(kept[:limit])

    def prompt(self, chat: dict[str, Any], body: dict[str, Any]) -> int:
        """Return a request's input tokens."""
        total = PRIMING + sum(self._message(message) for message in chat["messages"])
        beyond = {name: body[name] for name in _BEYOND_TEXT if body.get(name)}
        return total + (self.count(orjson.dumps(beyond).decode()) if beyond else 0)

    def _message(self, message: dict[str, Any]) -> int:
        total = PER_MESSAGE
        fixed = message.get("role") in _FIXED
        for name, value in message.items():
            if name == "content" and isinstance(value, list):
                total += sum(self.count(part["text"]) for part in value if isinstance(part.get("text"), str))
            elif isinstance(value, str):
                total += self._count_again(value) if fixed or name == "role" else self.count(value)
                total += PER_NAME if name == "name" else 0
            elif value:
                total += self.count(orjson.dumps(value).decode())
        return total


def tokenizer_of(model: Any) -> Tokenizer | None:
    """Return an OpenAI model's tokenizer, with or without the prefix `openai-`."""
    if not isinstance(model, str):
        return None
    name = re.sub(r"^openai[-/]", "", model.lower())
    encoding = next((encoding for pattern, encoding in _FAMILIES if pattern.match(name)), None)
    return _load(encoding) if encoding else None


@functools.cache
def _load(name: str) -> Tokenizer:
    with warnings.catch_warnings():
        # bpe-openai 0.1.4 uses a function that is deprecated in Python 3.11 and 3.12.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding  # noqa: PLC0415 - most of a second to import

        return Tokenizer(get_encoding(name))


def _pieces(text: str) -> Iterator[str]:
    if len(text) <= _CHUNK:
        yield text
        return
    start = 0
    while start < len(text):
        end = text.rfind(" ", start + 1, start + _CHUNK) if len(text) - start > _CHUNK else len(text)
        end = end if end > start else start + _CHUNK
        yield text[start:end]
        start = end
