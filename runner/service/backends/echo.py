"""The backend that says back what it was told, for tests and for trying things out without a model.

An answer is a function of its request only. Tokens of OpenAI's models are counted as these count them (`tokens`); of
any other model, whose tokenizer is not public, each four characters begun are one.
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
"""1 January 2026 UTC: the `created` of every answer, so that it depends on nothing but the request."""

CONTEXT_TOKENS = 128_000
CHARACTERS_PER_TOKEN = 4


class Echo:
    """Answers with the text of the last message, cut at the request's token limit.

    `delay` is in seconds for each request; with one, `concurrency` requests are answered at once.
    """

    def __init__(self, delay: float = 0.0, concurrency: int = 8) -> None:
        self._delay = delay
        self._concurrency = concurrency

    @property
    def concurrency(self) -> int:
        """One where nothing is waited for: more would only cost time."""
        return self._concurrency if self._delay else 1

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request. Raises RequestFailed where it is too long for the context or has no sensible limit."""
        if self._delay:
            await asyncio.sleep(self._delay)
        tokenizer = tokenizer_of(body.get("model")) or Rule()
        response = from_chat(_complete(to_chat(body, wire), body, tokenizer), body, wire)
        return Answer(response, usage_of(response))

    async def close(self) -> None:
        """Nothing to let go of."""


class Rule:
    """One token for each four characters begun, and none for what is around the texts."""

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return -(-len(text) // CHARACTERS_PER_TOKEN)

    def cut(self, text: str, limit: int) -> str:
        """The first `limit` tokens of a text."""
        return text[: limit * CHARACTERS_PER_TOKEN]

    def prompt(self, chat: Json, _body: Json) -> int:
        """Input tokens of a request."""
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
