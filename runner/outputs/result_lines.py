"""Turn untrusted result lines of three shapes into one Answer, with every field checked and bounded.

Values are named tuples, made by the million in a third of a frozen dataclass's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from runner.base.retryable import ErrorKind
from runner.outputs.content import Call, Content, calls_of_row, has_kind, is_cut, read_content
from runner.outputs.error_words import find_words, is_transient
from runner.outputs.tolerant_json import Repair, read_tolerantly
from runner.outputs.usage import Tokens, tokens_of, tokens_of_row

INVALID = "invalid"
"""Code of an answer that does not fit the schema. It was billed, so only `retry.on` makes it retryable."""
NO_TEXT = "no_text"
"""Code of a response without text, refusal, tool call and error. It may have been billed, so only `retry.on` makes it
retryable.
"""
NO_RESPONSE = "no_response"
"""Code of a request without HTTP answer, if the service gives none. It is transient."""
_UNKNOWN = "unknown_error"
_LEAST_ERROR = 400


class Answer(NamedTuple):
    """What a request came back with. `text` is None on a refusal or an error, one of which is set.

    An answer that does not fit the schema, or that failed after it began, has both text and error.

    Token counts are the service's, if any; see `usage.Tokens`. `kind` is that of `error`.
    """

    text: str | None
    finish_reason: str | None
    refusal: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    model: str | None
    error: tuple[str, str] | None
    calls: tuple[Call, ...] = ()
    written_tokens: int | None = None
    written_hour_tokens: int | None = None
    kind: ErrorKind = ErrorKind.REFUSED
    odd_usage: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether it ended at the token limit."""
        return self.error is None and is_cut(self.finish_reason)


class ResultLine(NamedTuple):
    """A custom_id, and the response object or an error (code, message).

    `repair`: what a tolerant read changed.
    """

    custom_id: str
    response: dict[str, Any] | None
    error: tuple[str, str] | None
    kind: ErrorKind = ErrorKind.REFUSED
    repair: Repair = Repair.NONE


def read_line(data: bytes) -> ResultLine | None:
    """Parse a line in the guide's, OpenAI's or Anthropic's shape, else return None."""
    repair = Repair.NONE
    try:
        line: object = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            line, repair = read_tolerantly(data)
        except ValueError:
            return None
    if not isinstance(line, dict) or not isinstance(line.get("custom_id"), str):
        return None
    if isinstance(line.get("result"), dict):
        found = _anthropic(line["custom_id"], line["result"])
    elif line.keys() & {"response", "error", "result"}:
        found = _openai(line["custom_id"], line.get("response"), line.get("error"))
    else:
        return None
    return found._replace(repair=repair) if repair else found


def answer_of(line: ResultLine) -> Answer:
    """Return the answer in a line."""
    if line.error is not None:
        return failed(line.error, line.kind)
    response = line.response or {}
    content, tokens = read_content(response), tokens_of(response.get("usage"))
    error, kind = None, ErrorKind.REFUSED
    text = content.text
    if content.failed or content.empty:
        error = _own_error(response, content, tokens)
        kind = ErrorKind.BILLED if tokens.billed else ErrorKind.EMPTY
        text = text or None
    return Answer(
        text,
        content.finish_reason,
        content.refusal,
        tokens.input,
        tokens.output,
        tokens.cached,
        _text(response.get("model")),
        error,
        content.calls,
        tokens.written,
        tokens.written_hour,
        kind,
        tokens.odd,
    )


def answer_of_row(row: Mapping[str, Any]) -> Answer:
    """Return the answer in an output row; missing fields are None.

    A row with the field `text`, but without text, refusal, value or call, is the error `no_text`.
    """
    error, calls = row.get("error"), row.get("tool_calls")
    tokens = tokens_of_row(row.get("usage"))
    answer = Answer(
        _text(row.get("text")),
        _text(row.get("finish_reason")),
        _text(row.get("refusal")),
        tokens.input,
        tokens.output,
        tokens.cached,
        _text(row.get("model")),
        None,
        tuple(calls_of_row(calls)),
        tokens.written,
        tokens.written_hour,
    )
    if isinstance(error, dict):
        words = find_words(error)
        code = words.code or _UNKNOWN
        billed = tokens.billed and code != INVALID
        kind = ErrorKind.BILLED if billed else ErrorKind.REFUSED
        return answer._replace(error=(code, words.message or code), kind=kind)
    if "text" in row and row.get("parsed") is None and Content(answer.text, None, answer.refusal, answer.calls).empty:
        return answer._replace(error=(NO_TEXT, _reason(answer.finish_reason, tokens, {})), kind=ErrorKind.BILLED)
    return answer


def failed(error: tuple[str, str], kind: ErrorKind = ErrorKind.REFUSED) -> Answer:
    """Return an answer that is only an error."""
    return Answer(None, None, None, None, None, None, None, error, kind=kind)


def _openai(custom_id: str, response: object, error: object) -> ResultLine:
    """Parse OpenAI's shape, or the guide's, whose body has no status."""
    status: int | None = 200
    body = response
    wrapped = isinstance(response, dict) and (
        response.get("status_code") is not None
        or (bool(response.keys() & {"status_code", "body"}) and not has_kind(response))
    )
    if wrapped and isinstance(response, dict):
        status, body = _status(response.get("status_code")), response.get("body")
    if isinstance(body, str) and body.lstrip().startswith("{"):
        body = _parse_if_json(body)
    answered = has_kind(body) and (status is None or status < _LEAST_ERROR)
    if error is not None and not (_is_empty(error) and answered):
        words = find_words(error, body)
        known = status is not None and status >= _LEAST_ERROR
        code = words.code or (f"http_{status}" if known else "")
        if code or words.message or not _is_empty(error):
            kind = ErrorKind.RETRYABLE if response is not None and is_transient(status) else ErrorKind.REFUSED
            code = code or (NO_RESPONSE if kind is ErrorKind.RETRYABLE else _UNKNOWN)
            return ResultLine(custom_id, None, (code, words.message or _default_message(code)), kind)
    if answered:
        assert isinstance(body, dict)
        return ResultLine(custom_id, body, None)
    if status is None or status <= 0:
        words = find_words(body)
        code = words.code or NO_RESPONSE
        return ResultLine(
            custom_id, None, (code, words.message or "the service got no HTTP answer"), ErrorKind.RETRYABLE
        )
    if status >= _LEAST_ERROR:
        words = find_words(body)
        code = words.code or f"http_{status}"
        kind = ErrorKind.RETRYABLE if is_transient(status) else ErrorKind.REFUSED
        return ResultLine(custom_id, None, (code, words.message or _default_message(code)), kind)
    return ResultLine(custom_id, body if isinstance(body, dict) else {"error": body}, None)


def _is_empty(error: object) -> bool:
    """Return whether an error is empty, as some services send."""
    return not (any(error.values()) if isinstance(error, dict) else error)


def _default_message(code: str) -> str:
    return "no reason was given" if code == _UNKNOWN else code


def _status(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 3:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _parse_if_json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _anthropic(custom_id: str, result: dict[str, Any]) -> ResultLine:
    kind, message = result.get("type"), result.get("message")
    if kind == "succeeded" and isinstance(message, dict):
        return ResultLine(custom_id, message, None)
    words = find_words(result.get("error"), message)
    if kind == "errored" or not isinstance(kind, str) or kind == "succeeded":
        code = words.code or (_UNKNOWN if kind == "errored" else NO_TEXT)
        return ResultLine(custom_id, None, (code, words.message or _default_message(code)))
    return ResultLine(custom_id, None, (words.code or kind[:100], words.message or f"the request was {kind[:100]}"))


_WORDS = frozenset({"message", "msg", "detail", "error", "errors"})
"""Fields that make an object of no known kind an error."""


def _own_error(response: Mapping[str, Any], content: Content, tokens: Tokens) -> tuple[str, str]:
    places = [content.failure, response.get("error")]
    if not has_kind(response) and response.keys() & _WORDS:
        places.append(response)
    words = find_words(*places)
    code = words.code or (NO_TEXT if content.empty else _UNKNOWN)
    if words.message or not content.empty:
        return code, words.message or code
    return code, _reason(content.finish_reason, tokens, response)


def _reason(finish_reason: str | None, tokens: Tokens, response: Mapping[str, Any]) -> str:
    facts = [f"finish reason: {finish_reason[:100]}"] if finish_reason else []
    if response.get("choices") == []:
        facts.append("no choices")
    if tokens.output:
        facts.append(f"output tokens: {tokens.output:,}")
    if reasoning := _reasoning(response):
        facts.append(f"of them for reasoning: {reasoning:,}")
    return "no text, no refusal and no tool call" + (f" ({', '.join(facts)})" if facts else "")


def _reasoning(response: Mapping[str, Any]) -> int:
    usage = response.get("usage")
    for name in ("completion_tokens_details", "output_tokens_details"):
        details = usage.get(name) if isinstance(usage, dict) else None
        count = details.get("reasoning_tokens") if isinstance(details, dict) else None
        if isinstance(count, int):
            return count
    return 0


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
