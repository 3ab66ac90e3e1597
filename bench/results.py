"""Result files of the three shapes that services send, as one answer to each request."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

TEXT = "The customer likes it, but for the cable; positive."
_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1764000000,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 148,
        "completion_tokens": 11,
        "total_tokens": 159,
        "prompt_tokens_details": {"cached_tokens": 0},
    },
    "system_fingerprint": "fp_1",
}
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 148, "cache_read_input_tokens": 0, "output_tokens": 11},
}
SHAPES: dict[str, dict[str, Any]] = {
    "the guide's": {"custom_id": "", "response": _CHAT, "error": None},
    "OpenAI's": {
        "id": "batch_req_1",
        "custom_id": "",
        "response": {"status_code": 200, "request_id": "r", "body": _CHAT},
        "error": None,
    },
    "Anthropic's": {"custom_id": "", "result": {"type": "succeeded", "message": _MESSAGE}},
}


def write_results(path: Path, shape: dict[str, Any], count: int) -> None:
    """Yield a line for each of `count` keys, which are in no order."""
    chance = random.Random(1)
    before, after = json.dumps({**shape, "custom_id": "KEY"}, separators=(",", ":")).encode().split(b"KEY")
    with path.open("wb") as file:
        for _ in range(count):
            file.write(before + b"k1-" + chance.randbytes(20).hex().encode() + after + b"\n")
