"""The lines of input and result files: how they are read from disk, and the shapes they have on the wire.

Whether an input line says something valid is `validate`'s matter.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

import orjson

from runner.service.config import ResultShape

Provider = Literal["openai", "anthropic"]


class Format(enum.Enum):
    """The request and answer objects of one API; the value is the path that API has with its vendor."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"

    @classmethod
    def of(cls, provider: Provider, endpoint: str | None) -> Format:
        """The format of a job's requests; an endpoint that is not known counts as chat completions."""
        if provider == "anthropic":
            return cls.MESSAGES
        return cls.RESPONSES if endpoint == cls.RESPONSES.value else cls.CHAT


ENDPOINTS: tuple[str, ...] = (Format.RESPONSES.value, Format.CHAT.value)
"""What `endpoint` of a job and `url` of an openai line may be."""


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a job failed. `line` counts from 1; None where it is about the whole file."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


def read_lines(file: IO[bytes], limit: int) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file with their numbers, without ever holding more than `limit` bytes; None for longer ones."""
    number = 0
    while line := file.readline(limit + 1):
        number += 1
        if len(line) <= limit or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(limit)
        yield number, None


def request_of(line: dict[str, Any], provider: Provider) -> dict[str, Any]:
    """The request inside a valid input line."""
    body: dict[str, Any] = line["params" if provider == "anthropic" else "body"]
    return body


def with_defaults(body: dict[str, Any], defaults: dict[str, Any], wire: Format) -> dict[str, Any]:
    """A request with the job's defaults under its own fields; `max_tokens` goes by the name the format has for it."""
    if not defaults:
        return body
    merged = {**defaults, **body}
    if wire is Format.CHAT and "max_completion_tokens" in body and "max_tokens" not in body:
        merged.pop("max_tokens", None)
    if wire is Format.RESPONSES and "max_tokens" in defaults and "max_tokens" not in body:
        limit = merged.pop("max_tokens")
        merged.setdefault("max_output_tokens", limit)
    return merged


def output_line(shape: ResultShape, batch_id: str, custom_id: str, response: dict[str, Any]) -> bytes:
    """One line of an output file: an answered request."""
    match shape:
        case "guide":
            return _dump({"custom_id": custom_id, "response": response, "error": None})
        case "openai":
            line_id = _line_id(batch_id, custom_id)
            answer = {"status_code": 200, "request_id": f"req_{line_id}", "body": response}
            return _dump({"id": f"batch_req_{line_id}", "custom_id": custom_id, "response": answer, "error": None})
        case "anthropic":
            return _dump({"custom_id": custom_id, "result": {"type": "succeeded", "message": response}})


def error_line(shape: ResultShape, batch_id: str, custom_id: str, code: str, message: str) -> bytes:
    """One line of an error file: a request that failed for good."""
    error = {"code": code, "message": message}
    match shape:
        case "guide":
            return _dump({"custom_id": custom_id, "error": error})
        case "openai":
            line_id = f"batch_req_{_line_id(batch_id, custom_id)}"
            return _dump({"id": line_id, "custom_id": custom_id, "response": None, "error": error})
        case "anthropic":
            # The vendor nests the error in an envelope; `code` and `message` beside it serve the other readers.
            inner = {"type": "error", "error": {"type": code, "message": message}, **error}
            return _dump({"custom_id": custom_id, "result": {"type": "errored", "error": inner}})


def response_in(line: dict[str, Any]) -> dict[str, Any]:
    """The provider's response object in a line that `output_line` wrote, whatever its shape."""
    if "result" in line:
        message: dict[str, Any] = line["result"]["message"]
        return message
    response: dict[str, Any] = line["response"]
    return response["body"] if "status_code" in response and "body" in response else response


def error_in(line: dict[str, Any]) -> tuple[str, str]:
    """Code and message in a line that `error_line` wrote, whatever its shape."""
    error = line["result"]["error"] if "result" in line else line["error"]
    return error["code"], error["message"]


def usage_of(response: dict[str, Any]) -> Usage:
    """The tokens that a response object of any format says it took; what it does not say, or says wrongly, is 0.

    Cached tokens are part of the input tokens, as OpenAI counts them; Anthropic's answers have them beside.
    """
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details.get("cached_tokens") if isinstance(details, dict) else None)
    beside = _count(usage.get("cache_read_input_tokens"))
    written = _count(usage.get("cache_creation_input_tokens"))
    return Usage(
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))) + beside + written,
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cached + beside,
    )


def key_of(custom_id: str) -> bytes:
    """A custom_id as 16 bytes, so that sets of them stay small whatever people use as ids."""
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


def _dump(line: dict[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _line_id(batch_id: str, custom_id: str) -> str:
    return hashlib.blake2b(f"{batch_id}\n{custom_id}".encode(), digest_size=12).hexdigest()


def _count(value: Any) -> int:
    """A token count; bounded, so that sums of them fit a database."""
    return min(value, 1 << 40) if isinstance(value, int) and value > 0 else 0
