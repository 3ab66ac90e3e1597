"""Errors and token counts of result lines."""

from __future__ import annotations

from typing import Any

import pytest

from runner.base.retryable import is_retryable
from runner.outputs.result_lines import answer_of_row
from runner.outputs.usage import MAX_TOKENS, Tokens, tokens_of
from tests.outputs.bodies import KEY, chat, chosen, lines_of, message, output_text, read, refused, response, said

OWN_ERRORS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    "responses: failed": (
        response(status="failed", error={"code": "server_error", "message": "try again"}, usage=None),
        "server_error", "try again", True,
    ),
    "responses: failed for good": (
        response(status="failed", error={"code": "invalid_prompt", "message": "no"}), "invalid_prompt", "no", False,
    ),
    "responses: failed, no words": (response(status="failed"), "no_text", "no text", False),
    "chat: an error in the choice": (
        chosen({"finish_reason": "error", "error": {"code": 502, "message": "upstream"}, "message": {"content": ""}}),
        "http_502", "upstream", True,
    ),
    "chat: finish reason error": (
        chosen({"finish_reason": "error", "message": {"content": None}}), "no_text", "no text", False,
    ),
    "chat: no choices, an error": (
        chosen(error={"code": "overloaded", "message": "busy"}), "overloaded", "busy", True,
    ),
    "an error under 200": ({"error": {"type": "overloaded_error", "message": "busy"}}, "overloaded_error", "busy", True),
    "a flat error under 200": (
        {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400},
        "BadRequestError", "too long", False,
    ),
    "a status in the body under 200": ({"statusCode": 503, "message": "down"}, "http_503", "down", True),
    "words without a code under 200": ({"detail": "not now"}, "no_text", "not now", False),
}  # fmt: skip


@pytest.mark.parametrize(("body", "code", "words", "passes"), OWN_ERRORS.values(), ids=OWN_ERRORS)
def test_a_body_with_an_error_of_its_own(body: dict[str, Any], code: str, words: str, passes: bool) -> None:
    for line in lines_of(body).values():
        found = read(line)
        assert found.error is not None
        assert (found.error[0], found.error[1][: len(words)]) == (code, words)
        assert is_retryable(code, None, found.kind) is passes


def test_what_was_billed_is_not_asked_again_by_itself() -> None:
    """A transient code passes while nothing was billed. Law 1: what was billed is asked again by a person's word."""
    error = {"code": "server_error", "message": "try again"}
    for usage, passes in ((None, True), ({"input_tokens": 0, "output_tokens": 0}, True), ({"output_tokens": 7}, False)):
        found = read(lines_of(response(status="failed", error=error, usage=usage))["openai"])
        assert found.error == ("server_error", "try again")
        assert is_retryable("server_error", None, found.kind) is passes


def test_a_response_that_failed_keeps_the_text_that_it_had() -> None:
    found = read(
        lines_of(response(said(output_text("half")), status="failed", error={"code": "server_error"}))["guide"]
    )
    assert (found.text, found.error) == ("half", ("server_error", "server_error"))
    cut = read(lines_of(chosen({"finish_reason": "content_filter", "message": {"content": "half"}}))["guide"])
    assert (cut.text, cut.error) == ("half", None)


ERRORS: dict[str, tuple[dict[str, Any], str, str, bool]] = {
    "nested in the error": (
        refused(400, None, {"error": {"message": "too long", "type": "BadRequestError", "code": 400}}),
        "BadRequestError", "too long", False,
    ),
    "nested in the body": (refused(429, {"error": {"code": "slow", "message": "wait"}}), "slow", "wait", True),
    "flat": (refused(400, {"message": "no", "type": "T", "code": 400}), "T", "no", False),
    "message": (refused(400, {"message": "no", "statusCode": 400}), "http_400", "no", False),
    "detail": (refused(422, {"detail": "no"}), "http_422", "no", False),
    "details with places": (
        refused(422, {"detail": [{"loc": ["body", 0, "model"], "msg": "unknown", "type": "value_error"}]}),
        "http_422", "body.0.model: unknown", False,
    ),
    "errors": (refused(400, {"errors": [{"code": "c", "message": "no"}, {"message": "nor"}]}), "c", "no; nor", False),
    "plain text": (refused(400, "no"), "http_400", "no", False),
    "a page": (refused(502, "<html><h1>Bad Gateway</h1></html>"), "http_502", "<html><h1>Bad Gateway</h1></html>", True),
    "JSON in a text": (refused(400, '{"error": {"code": "c", "message": "no"}}'), "c", "no", False),
    "JSON in the message": (refused(400, {"message": '{"error": {"code": "c", "message": "no"}}'}), "c", "no", False),
    "error and message": (refused(400, {"error": "Bad Request", "message": "no"}), "http_400", "no", False),
    "error as text": ({"custom_id": KEY, "response": None, "error": "no"}, "unknown_error", "no", False),
    "no words": (refused(500, None), "http_500", "http_500", True),
    "another server error": (refused(520, {"error": {"code": "odd", "message": "no"}}), "odd", "no", True),
    "a quota": (refused(429, {"error": {"code": "insufficient_quota", "message": "pay"}}), "insufficient_quota", "pay", False),
    "status 0, an empty text": (refused(0, ""), "no_response", "the service got no HTTP answer", True),
    "status 0, no body": (refused(0, None), "no_response", "the service got no HTTP answer", True),
    "status null": (refused(None, None), "no_response", "the service got no HTTP answer", True),
    "status null, words": (refused(None, {"message": "reset by peer"}), "no_response", "reset by peer", True),
    "status 0, an error": (refused(0, None, {"message": "reset"}), "no_response", "reset", True),
    "a response without a status": (
        {"custom_id": KEY, "response": {"body": None}, "error": None}, "no_response", "the service got no HTTP answer", True,
    ),
    "anthropic": (
        {"custom_id": KEY, "result": {"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "no"}}}},
        "api_error", "no", True,
    ),
    "anthropic, flat": (
        {"custom_id": KEY, "result": {"type": "errored", "error": {"type": "invalid_request_error", "message": "no"}}},
        "invalid_request_error", "no", False,
    ),
    "anthropic, expired": ({"custom_id": KEY, "result": {"type": "expired"}}, "expired", "the request was expired", True),
}  # fmt: skip


@pytest.mark.parametrize(("line", "code", "words", "passes"), ERRORS.values(), ids=ERRORS)
def test_errors_keep_words_codes_and_class(line: dict[str, Any], code: str, words: str, passes: bool) -> None:
    found = read(line)
    assert found.error == (code, words)
    assert is_retryable(code, None, found.kind) is passes


def test_words_are_bounded() -> None:
    error = read(refused(400, {"error": {"code": "c" * 1_000, "message": "m" * 100_000}})).error
    assert error is not None
    assert (len(error[0]), len(error[1])) == (100, 2_000)


def test_an_answer_is_not_lost_for_a_missing_status() -> None:
    for status in (None, 0):
        assert read(refused(status, chat(content="yes"))).text == "yes"


USAGES: dict[str, tuple[Any, Tokens]] = {
    "none": (None, Tokens()),
    "chat": ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}, Tokens(9, 3)),
    "chat, cached": (
        {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}, Tokens(9, 3, 8),
    ),
    "chat, written": (
        {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 7}},
        Tokens(9, 3, 2, 7),
    ),
    "message, read": ({"input_tokens": 9, "output_tokens": 3, "cache_read_input_tokens": 80}, Tokens(9, 3, 80)),
    "message, written": (
        {"input_tokens": 9, "output_tokens": 3, "cache_creation_input_tokens": 70, "cache_read_input_tokens": 0},
        Tokens(9, 3, 0, 70),
    ),
    "message, written for both times": (
        {
            "input_tokens": 9, "output_tokens": 3, "cache_creation_input_tokens": 70,
            "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 40},
        },
        Tokens(9, 3, None, 70, 40),
    ),
    "a total that does not add up": ({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 13}, Tokens(9, 3, odd=True)),
    "more cached than given": ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 10}}, Tokens(9, None, 10, odd=True)),
    "parts that do not add up": (
        {"input_tokens": 9, "cache_creation_input_tokens": 7, "cache_creation": {"ephemeral_1h_input_tokens": 8}},
        Tokens(9, None, None, 8, 8, odd=True),
    ),
    "negative": ({"prompt_tokens": -9, "completion_tokens": 3}, Tokens(None, 3, odd=True)),
    "a fraction": ({"prompt_tokens": 9.5, "completion_tokens": 3}, Tokens(None, 3, odd=True)),
    "absurd": ({"prompt_tokens": MAX_TOKENS + 1, "completion_tokens": 3}, Tokens(None, 3, odd=True)),
    "no object": ([1], Tokens(odd=True)),
}  # fmt: skip


@pytest.mark.parametrize(("usage", "tokens"), USAGES.values(), ids=USAGES)
def test_tokens_of_a_usage(usage: Any, tokens: Tokens) -> None:
    assert tokens_of(usage) == tokens
    for body in (chat(content="yes"), response(said(output_text("yes"))), message({"type": "text", "text": "yes"})):
        for line in lines_of({**body, "usage": usage}).values():
            assert read(line).odd_usage is tokens.odd


ROWS: dict[str, tuple[dict[str, Any], str | None]] = {
    "a text": ({"text": "a"}, None),
    "a refusal": ({"text": None, "refusal": "no"}, None),
    "a call": ({"text": None, "tool_calls": [{"name": "f", "arguments": {}}]}, None),
    "a value": ({"text": None, "parsed": {"a": 1}}, None),
    "no field for text": ({"parsed": None}, None),
    "null": ({"text": None, "refusal": None}, "no_text"),
    "empty": ({"text": "", "refusal": None}, "no_text"),
    "an error": ({"text": None, "error": {"code": "c", "message": "m"}}, "c"),
}


@pytest.mark.parametrize(("row", "code"), ROWS.values(), ids=ROWS)
def test_a_row_of_an_output_is_held_to_the_same_rule(row: dict[str, Any], code: str | None) -> None:
    """Rows without text that an earlier version wrote as answered are errors too; they are not asked again."""
    answer = answer_of_row(row)
    assert (answer.error and answer.error[0]) == code
    if code == "no_text":
        assert not is_retryable(code, None, answer.kind)
