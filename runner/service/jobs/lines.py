"""Lines of input and result files, and their shapes on the wire."""

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
    """One API's format; the value is its path at the vendor."""

    CHAT = "/v1/chat/completions"
    RESPONSES = "/v1/responses"
    MESSAGES = "/v1/messages"

    @classmethod
    def of(cls, provider: Provider, endpoint: str | None) -> Format:
        """Return a job's format, by default chat completions."""
        if provider == "anthropic":
            return cls.MESSAGES
        return cls.RESPONSES if endpoint == cls.RESPONSES.value else cls.CHAT


ENDPOINTS: tuple[str, ...] = (Format.RESPONSES.value, Format.CHAT.value)
"""Allowed values of a job's `endpoint` and an openai line's `url`."""


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a job failed. `line` counts from 1; None: the whole file."""

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
    """Yield numbered lines; None for those longer than `limit` bytes."""
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
    """Return a valid input line's request."""
    body: dict[str, Any] = line["params" if provider == "anthropic" else "body"]
    return body


def with_defaults(body: dict[str, Any], defaults: dict[str, Any], wire: Format) -> dict[str, Any]:
    """Add a job's defaults to a request, under the format's name for `max_tokens`."""
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
    """Return an output file's line."""
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
    """Return an error file's line."""
    error = {"code": code, "message": message}
    match shape:
        case "guide":
            return _dump({"custom_id": custom_id, "error": error})
        case "openai":
            line_id = f"batch_req_{_line_id(batch_id, custom_id)}"
            return _dump({"id": line_id, "custom_id": custom_id, "response": None, "error": error})
        case "anthropic":
            # The vendor nests the error in an envelope; other clients read `code` and `message` next to it.
            inner = {"type": "error", "error": {"type": code, "message": message}, **error}
            return _dump({"custom_id": custom_id, "result": {"type": "errored", "error": inner}})


def response_in(line: dict[str, Any]) -> dict[str, Any]:
    """Return the response in an output line of any shape."""
    if "result" in line:
        message: dict[str, Any] = line["result"]["message"]
        return message
    response: dict[str, Any] = line["response"]
    return response["body"] if "status_code" in response and "body" in response else response


def error_in(line: dict[str, Any]) -> tuple[str, str]:
    """Return code and message of an error line of any shape."""
    error = line["result"]["error"] if "result" in line else line["error"]
    return error["code"], error["message"]


def usage_of(response: dict[str, Any]) -> Usage:
    """Return a response's usage; 0 for missing and invalid numbers.

    Input includes cached tokens, as at OpenAI; Anthropic reports them separately.
    """
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details.get("cached_tokens") if isinstance(details, dict) else None)
    cache_read = _count(usage.get("cache_read_input_tokens"))
    cache_written = _count(usage.get("cache_creation_input_tokens"))
    return Usage(
        _count(usage.get("prompt_tokens", usage.get("input_tokens"))) + cache_read + cache_written,
        _count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cached + cache_read,
    )


def key_of(custom_id: str) -> bytes:
    """Return a custom_id's 16-byte digest, to keep sets small."""
    return hashlib.blake2b(custom_id.encode(), digest_size=16).digest()


def _dump(line: dict[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _line_id(batch_id: str, custom_id: str) -> str:
    return hashlib.blake2b(f"{batch_id}\n{custom_id}".encode(), digest_size=12).hexdigest()


def _count(value: Any) -> int:
    """Return a token count, limited so that sums fit the database."""
    return min(value, 1 << 40) if isinstance(value, int) and value > 0 else 0
