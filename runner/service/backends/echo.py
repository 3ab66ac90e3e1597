"""A backend that returns the prompt.

An answer depends only on its request. OpenAI's tokens are exact (`tokens`). Other tokenizers are not public: four
characters count as one token.
"""

from __future__ import annotations

import asyncio
import hashlib

import orjson

from runner.service.backends import Answer, Json, RequestFailed
from runner.service.backends.tokens import Tokenizer, tokenizer_of
from runner.service.backends.translate import from_chat, text_of, to_chat
from runner.service.jobs.lines import Format, usage_of

CREATED = 1_767_225_600
"""1 January 2026 UTC, the `created` of every answer."""

CONTEXT_TOKENS = 128_000
CHARACTERS_PER_TOKEN = 4


class Echo:
    """Answers with the last message's text, cut at the token limit.

    With a `delay` (seconds), it answers `concurrency` requests at a time.
    """

    def __init__(self, delay: float = 0.0, concurrency: int = 8) -> None:
        self._delay = delay
        self._concurrency = concurrency

    @property
    def concurrency(self) -> int:
        """Return one without a delay: more would only cost time."""
        return self._concurrency if self._delay else 1

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request. Raises RequestFailed."""
        if self._delay:
            await asyncio.sleep(self._delay)
        tokenizer = tokenizer_of(body.get("model")) or Rule()
        response = from_chat(_complete(to_chat(body, wire), body, tokenizer), body, wire)
        return Answer(response, usage_of(response))

    async def close(self) -> None:
        """Do nothing."""


class Rule:
    """Counts a token for every four characters, rounded up."""

    def count(self, text: str) -> int:
        """Return a text's tokens."""
        return -(-len(text) // CHARACTERS_PER_TOKEN)

    def cut(self, text: str, limit: int) -> str:
        """Return a text's first `limit` tokens."""
        return text[: limit * CHARACTERS_PER_TOKEN]

    def prompt(self, chat: Json, _body: Json) -> int:
        """Return a request's input tokens."""
        return sum(self.count(text_of(message.get("content"))) for message in chat["messages"])


def _complete(chat: Json, body: Json, tokenizer: Tokenizer | Rule) -> Json:
    prompt_tokens = tokenizer.prompt(chat, body)
    if prompt_tokens > CONTEXT_TOKENS:
        raise RequestFailed(
            "context_length_exceeded", f"The request has {prompt_tokens} tokens; the limit is {CONTEXT_TOKENS}."
        )
    limit = _limit(chat)
    text = text_of(chat["messages"][-1].get("content"))
    completion_tokens = tokenizer.count(text)
    cut = limit is not None and completion_tokens > limit
    if limit is not None and cut:
        text, completion_tokens = tokenizer.cut(text, limit), limit
    return {
        "id": f"chatcmpl-{_digest(body)}",
        "object": "chat.completion",
        "created": CREATED,
        "model": chat.get("model"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "length" if cut else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def _limit(chat: Json) -> int | None:
    limit = chat.get("max_completion_tokens", chat.get("max_tokens"))
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise RequestFailed("invalid_request", f"The token limit must be a whole number of at least 1, got {limit!r}.")
    return limit


def _digest(body: Json) -> str:
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=15).hexdigest()
