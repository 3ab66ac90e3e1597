"""Count the input tokens of one request body.

OpenAI's cookbook ("How to count tokens with tiktoken"): three a message, its role and content, one for a name, three
for the answer. Tools, schemas and pictures have no published rule: their JSON counts as assumed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from runner.base.model_facts import bare_model
from runner.base.tokenizer import token_counter

_MESSAGE = 3
_PRIMING = 3
_NAME = 1


class Certainty(Enum):
    """How reliable a number is, best first."""

    EXACT = "exact"
    """Counted by the model's tokenizer and a published rule."""
    ASSUMED = "assumed"
    """Counted, with an assumed tokenizer or an assumed rule for a part of the request."""
    ESTIMATED = "estimated"
    """Calculated from bytes, or from a sample."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A model's tokenizer, documented or assumed."""

    name: str
    certainty: Certainty


_ENCODINGS = (
    # OpenAI's tiktoken maps these families; bpe-openai, which does the work here, knows the first four.
    (r"gpt-4o|gpt-4\.1|chatgpt-4o", Encoding("o200k_base", Certainty.EXACT)),
    (r"gpt-4(-|$)|gpt-3\.5|gpt-35", Encoding("cl100k_base", Certainty.EXACT)),
    (r"gpt-[5-9]|gpt-4\.[5-9]|gpt-oss|o[1-9](-|$)", Encoding("o200k_base", Certainty.ASSUMED)),
)


def encoding_of(model: str) -> Encoding | None:
    """Return an OpenAI model's tokenizer, if public."""
    name = bare_model(model)
    return next((encoding for pattern, encoding in _ENCODINGS if re.match(pattern, name)), None)


@dataclass(frozen=True, slots=True)
class Count:
    """Tokens of one request."""

    tokens: int
    certainty: Certainty


class TokenCounter:
    """Counts for one encoding. Loading takes 0.1 s."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self._text = token_counter(encoding.name)
        self._instructions: dict[str, int] = {}

    def count(self, request: Mapping[str, Any]) -> Count:
        """Count a chat-completions or responses body."""
        certainty = self.encoding.certainty
        total = _PRIMING
        for role, name, texts, other in _messages(request):
            total += _MESSAGE + self._constant(role)
            total += _NAME + self._text(name) if name else 0
            # A system prompt is the same in every row of most jobs.
            total += sum(self._constant(text) if role in _FIXED else self._text(text) for text in texts)
            if other:
                certainty = Certainty.ASSUMED
                total += self._text(other)
        extra = {name: request[name] for name in _UNRULED if request.get(name)}
        if extra:
            certainty = Certainty.ASSUMED
            total += self._constant(orjson.dumps(extra).decode())
        return Count(total, certainty)

    def _constant(self, text: str) -> int:
        if text not in self._instructions:
            if len(self._instructions) > 256:
                self._instructions.clear()
            self._instructions[text] = self._text(text)
        return self._instructions[text]


_FIXED = {"system", "developer"}
_UNRULED = ("tools", "functions", "response_format", "text")
"""Fields without a published rule."""

Message = tuple[str, str, list[str], str]
"""Role, name, texts, and the rest of the message as JSON text."""


def _messages(request: Mapping[str, Any]) -> Iterator[Message]:
    """Yield messages; `instructions` and text `input` as system and user messages."""
    if isinstance(request.get("instructions"), str):
        yield "system", "", [request["instructions"]], ""
    listed = request.get("messages", request.get("input", []))
    if isinstance(listed, str):
        yield "user", "", [listed], ""
        return
    for message in listed if isinstance(listed, list) else []:
        if isinstance(message, dict):
            yield _message(message)


def _message(message: dict[str, Any]) -> Message:
    content = message.get("content")
    texts: list[str] = []
    other: list[Any] = []
    if isinstance(content, str):
        texts.append(content)
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            other.append(part)
    other += [value for key, value in message.items() if key not in {"role", "content", "name"} and value]
    name = message.get("name")
    role = message.get("role")
    return (
        role if isinstance(role, str) else "",
        name if isinstance(name, str) else "",
        texts,
        orjson.dumps(other).decode() if other else "",
    )
