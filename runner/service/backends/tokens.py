"""Tokens as OpenAI's models count them, for the backend that makes answers up. Nothing here is shared with the client.

Texts are counted by OpenAI's own tokenizers, the wrapping of messages by the rule of its cookbook ("How to count tokens
with tiktoken"): three tokens a message, the tokens of its role and content, its name's and one more, and three that
prime the answer. For tools, schemas and tool calls there is no published rule: the tokens of their JSON text are taken.
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
    # No table says so of these; all newer models have had it so far.
    (re.compile(r"gpt-[5-9]|gpt-4\.|gpt-oss|o[1-9](-|$)"), "o200k_base"),
)
_BEYOND_TEXT = ("tools", "functions", "response_format", "text")
_FIXED = ("system", "developer")
_CHUNK = 50_000
"""Characters given to the tokenizer at once: it refuses texts of more than 200,000 tokens."""


class _Encoding(Protocol):
    def encode_ordinary(self, text: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...


class Tokenizer:
    """Counts and cuts texts for one family of models."""

    def __init__(self, encoding: _Encoding) -> None:
        self._encoding = encoding
        # Roles, and the system message that stands in most requests of a job.
        self._count_again = functools.lru_cache(maxsize=64)(self.count)

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return sum(len(self._encoding.encode_ordinary(piece)) for piece in _pieces(text))

    def cut(self, text: str, limit: int) -> str:
        """The first `limit` tokens of a text; what they hold of a character that is cut in two shows as U+FFFD."""
        kept: list[int] = []
        for piece in _pieces(text):
            kept += self._encoding.encode_ordinary(piece)
            if len(kept) >= limit:
                break
        return self._encoding.decode(kept[:limit])

    def prompt(self, chat: dict[str, Any], body: dict[str, Any]) -> int:
        """Input tokens of a request: its messages as chat completions have them, the rest as it stands in `body`."""
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
    """The tokenizer of an OpenAI model, also where a catalogue puts `openai-` before its name; None for any other."""
    if not isinstance(model, str):
        return None
    name = re.sub(r"^openai[-/]", "", model.lower())
    encoding = next((encoding for pattern, encoding in _FAMILIES if pattern.match(name)), None)
    return _load(encoding) if encoding else None


@functools.cache
def _load(name: str) -> Tokenizer:
    with warnings.catch_warnings():
        # bpe-openai 0.1.4 reads its data by a function that Python 3.11 and 3.12 warn of.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bpe_openai import get_encoding  # noqa: PLC0415 - most of a second to import

        return Tokenizer(get_encoding(name))


def _pieces(text: str) -> Iterator[str]:
    """A long text in pieces that begin with a space where they can, as the tokenizer's words do."""
    if len(text) <= _CHUNK:
        yield text
        return
    start = 0
    while start < len(text):
        end = text.rfind(" ", start + 1, start + _CHUNK) if len(text) - start > _CHUNK else len(text)
        end = end if end > start else start + _CHUNK
        yield text[start:end]
        start = end
