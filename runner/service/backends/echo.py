"""The backend that says back what it was told, for tests and for trying things out without a model.

An answer is a function of its request only. Tokens are counted by a simple rule: one for each four characters begun.
"""

from __future__ import annotations

import asyncio
import hashlib

import orjson

from runner.service.backends import Answer, Json, RequestFailed
from runner.service.backends.translate import from_chat, text_of, to_chat
from runner.service.lines import Format, usage_of

CREATED = 1_767_225_600
"""1 January 2026 UTC: the `created` of every answer, so that it depends on nothing but the request."""

CONTEXT_TOKENS = 128_000
CHARACTERS_PER_TOKEN = 4


class Echo:
    """Answers with the text of the last message, cut at the request's token limit.

    `delay` is in seconds for each request; with one, several requests are answered at once.
    """

    def __init__(self, delay: float = 0.0) -> None:
        self._delay = delay

    @property
    def concurrency(self) -> int:
        """One where nothing is waited for: more would only cost time."""
        return 8 if self._delay else 1

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request. Raises RequestFailed where it is too long for the context or has no sensible limit."""
        if self._delay:
            await asyncio.sleep(self._delay)
        chat = _complete(to_chat(body, wire), _digest(body))
        response = from_chat(chat, body, wire)
        return Answer(response, usage_of(response))

    async def close(self) -> None:
        """Nothing to let go of."""


def _complete(chat: Json, digest: str) -> Json:
    texts = [text_of(message.get("content")) for message in chat["messages"]]
    prompt_tokens = sum(_tokens(text) for text in texts)
    if prompt_tokens > CONTEXT_TOKENS:
        raise RequestFailed(
            "context_length_exceeded", f"The request has {prompt_tokens} tokens; the limit is {CONTEXT_TOKENS}."
        )
    limit = _limit(chat)
    text = texts[-1]
    cut = limit is not None and _tokens(text) > limit
    if limit is not None and cut:
        text = text[: limit * CHARACTERS_PER_TOKEN]
    completion_tokens = _tokens(text)
    return {
        "id": f"chatcmpl-{digest}",
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


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _digest(body: Json) -> str:
    return hashlib.blake2b(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest_size=15).hexdigest()
