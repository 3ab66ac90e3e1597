"""What a result line means: text, a refusal or a tool call is an answer; nothing else is. In every shape, both ways."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.base.retryable import ErrorKind, is_retryable
from runner.outputs.line_scanner import Marks, ScannedLine, repaired, scan_line
from runner.outputs.result_lines import Answer, answer_of, answer_of_row, read_line
from runner.outputs.schema_check import AnswerSchema
from runner.outputs.tolerant_json import Repair
from runner.outputs.usage import MAX_TOKENS, Tokens, tokens_of

KEY = "k1-" + "a" * 40
FUZZ = bool(os.environ.get("BATCHSPEC_FUZZ"))
"""`make fuzz` tries more lines, and others each time."""


def chat(**message: Any) -> dict[str, Any]:
    return chosen({"finish_reason": "stop", "message": {"role": "assistant", "content": None, **message}})


def chosen(*choices: Any, **body: Any) -> dict[str, Any]:
    return {"object": "chat.completion", "model": "m", "choices": list(choices), **body}


def response(*items: Any, **body: Any) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "model": "m", "error": None, "output": list(items), **body}


def said(*parts: Any, **item: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts), **item}


def output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def message(*blocks: Any, **body: Any) -> dict[str, Any]:
    return {"type": "message", "model": "m", "stop_reason": "end_turn", "content": list(blocks), **body}


THINKING = {"type": "thinking", "thinking": "hm", "signature": "s"}
REASONING = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "thoughts"}]}


def lines_of(body: Any) -> dict[str, dict[str, Any]]:
    """A body in each wrapper that may hold it."""
    wrappers: dict[str, dict[str, Any]] = {
        "guide": {"custom_id": KEY, "response": body, "error": None},
        "openai": {"custom_id": KEY, "response": {"status_code": 200, "request_id": "r", "body": body}, "error": None},
    }
    if isinstance(body, dict) and "choices" not in body and "output" not in body:
        wrappers["anthropic"] = {"custom_id": KEY, "result": {"type": "succeeded", "message": body}}
    return wrappers


def long_way(data: bytes) -> ScannedLine | None:
    """What the full parse says of a line, as a glance."""
    line = read_line(data)
    if line is None:
        return None
    answer = answer_of(line)
    counts = answer.input_tokens, answer.output_tokens, answer.cached_tokens
    written = answer.written_tokens, answer.written_hour_tokens
    given, made, cached, new, hour = (count or 0 for count in (*counts, *written))
    marks = repaired(line.repair) + Marks.CUT * answer.is_cut + Marks.ODD_USAGE * answer.odd_usage
    code = answer.error[0] if answer.error else None
    return line.custom_id, code, answer.kind, answer.model, given, made, cached, new, hour, marks


def read(line: Any) -> Answer:
    """The answer in a line, which both ways agree on."""
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    assert scan_line(data) == long_way(data)
    found = read_line(data)
    assert found is not None
    return answer_of(found)


NOTHING: dict[str, Any] = {
    "chat: no choices": chosen(),
    "chat: null": chat(),
    "chat: empty": chat(content=""),
    "chat: blank": chat(content=" \n\t"),
    "chat: no parts": chat(content=[]),
    "chat: an empty part": chat(content=[{"type": "text", "text": ""}]),
    "chat: no calls": chat(content="", tool_calls=[], refusal=None),
    "chat: an empty refusal": chat(refusal=""),
    "chat: reasoning alone": chat(reasoning_content="I think"),
    "chat: no message": chosen({"finish_reason": "length", "message": None}),
    "chat: filtered": chosen({"finish_reason": "content_filter", "message": {"content": None}}),
    "chat: null choice": chosen(None),
    "responses: no items": response(),
    "responses: reasoning alone": response(REASONING),
    "responses: an empty message": response(said()),
    "responses: an empty text": response(said(output_text(""))),
    "responses: cut in reasoning": response(
        REASONING, status="incomplete", incomplete_details={"reason": "max_output_tokens"}
    ),
    "responses: queued": response(status="queued"),
    "message: no blocks": message(),
    "message: thinking alone": message(THINKING, stop_reason="max_tokens"),
    "message: an empty block": message({"type": "text", "text": ""}),
    "message: blank": message({"type": "text", "text": "\n"}),
    "an empty body": {},
    "no body": None,
    "a body of nothing known": {"id": "x", "type": "message"},
    "an empty list": [],
}


@pytest.mark.parametrize("body", NOTHING.values(), ids=NOTHING)
def test_no_text_is_not_an_answer(body: Any) -> None:
    """No text, no refusal, no tool call: the error `no_text`, with what the service says of the end."""
    for line in lines_of(body).values():
        found = read(line)
        assert found.error is not None
        assert found.error[0] == "no_text"
        assert found.error[1].startswith("no text, no refusal and no tool call")
        assert not (found.text or "").strip()
        assert not is_retryable("no_text", None, found.kind)
        assert is_retryable("no_text", ["no_text"], found.kind)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param({"custom_id": KEY, "response": None, "error": None}, id="null and null"),
        pytest.param({"custom_id": KEY, "response": None}, id="null"),
        pytest.param({"custom_id": KEY, "error": {}}, id="an empty error"),
        pytest.param({"custom_id": KEY, "result": {"type": "succeeded"}}, id="a success without a message"),
        pytest.param({"custom_id": KEY, "result": {}}, id="an empty result"),
        pytest.param({"custom_id": KEY, "result": None}, id="no result"),
    ],
)
def test_a_line_of_nothing_is_no_answer(line: dict[str, Any]) -> None:
    error = read(line).error
    assert error is not None
    assert error[0] == "no_text"


def test_the_reason_is_told() -> None:
    body = response(
        REASONING,
        status="incomplete",
        incomplete_details={"reason": "max_output_tokens"},
        usage={"input_tokens": 9, "output_tokens": 64, "output_tokens_details": {"reasoning_tokens": 64}},
    )
    found = read(lines_of(body)["openai"])
    facts = "finish reason: max_output_tokens, output tokens: 64, of them for reasoning: 64"
    assert found.error == ("no_text", f"no text, no refusal and no tool call ({facts})")
    assert (found.kind, found.output_tokens, found.finish_reason) == (ErrorKind.BILLED, 64, "max_output_tokens")


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


TEXTS: dict[str, tuple[dict[str, Any], str]] = {
    "chat: a string": (chat(content="a b"), "a b"),
    "chat: strings": (chat(content=["a ", "b"]), "a b"),
    "chat: parts": (chat(content=[{"type": "text", "text": "a "}, {"type": "output_text", "text": "b"}]), "a b"),
    "chat: parts without a type": (chat(content=[{"text": "a "}, {"text": "b"}]), "a b"),
    "chat: one part": (chat(content={"type": "text", "text": "a b"}), "a b"),
    "chat: a text with a value": (chat(content=[{"type": "text", "text": {"value": "a b"}}]), "a b"),
    "chat: nested": (chat(content=[{"type": "text", "content": [{"type": "text", "text": "a b"}]}]), "a b"),
    "chat: thinking is no text": (chat(content=[THINKING, {"type": "text", "text": "a b"}]), "a b"),
    "chat: the choice that holds something": (chosen({"message": {"content": ""}}, {"message": {"content": "a b"}}), "a b"),
    "completions": (chosen({"text": "a b", "finish_reason": "stop"}), "a b"),
    "responses: parts": (response(REASONING, said(output_text("a "), output_text("b"))), "a b"),
    "responses: a string": (response(said() | {"content": "a b"}), "a b"),
    "responses: the last complete item": (response(said(output_text('{"a"'), status="incomplete"), said(output_text("a b"))), "a b"),
    "responses: cut after a complete one": (response(said(output_text("a b")), said(output_text("a"), status="incomplete")), "a b"),
    "responses: no state, the last": (response(said(output_text("draft")), said(output_text("a b"))), "a b"),
    "responses: commentary": (response(said(output_text("a b"), phase="final_answer"), said(output_text("done"), phase="commentary")), "a b"),
    "responses: commentary alone": (response(said(output_text("a b"), phase="commentary")), "a b"),
    "responses: an empty item after": (response(said(output_text("a b")), said(output_text(""))), "a b"),
    "responses: text beside items": (response(output_text="a b"), "a b"),
    "message: blocks": (message(THINKING, {"type": "text", "text": "a "}, {"type": "text", "text": "b"}), "a b"),
    "message: a string": ({**message(), "content": "a b"}, "a b"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "text"), TEXTS.values(), ids=TEXTS)
def test_text_is_found(body: dict[str, Any], text: str) -> None:
    for line in lines_of(body).values():
        found = read(line)
        assert (found.text, found.error) == (text, None)


def test_a_body_that_is_json_in_a_text_is_read() -> None:
    assert read(lines_of(json.dumps(chat(content="yes")))["openai"]).text == "yes"


REFUSALS: dict[str, dict[str, Any]] = {
    "chat": chat(refusal="I can't"),
    "chat: a part": chat(content=[{"type": "refusal", "refusal": "I can't"}]),
    "responses": response(said({"type": "refusal", "refusal": "I can't"})),
    "message": message({"type": "text", "text": "I can't"}, stop_reason="refusal"),
}


@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_an_answer(body: dict[str, Any]) -> None:
    for line in lines_of(body).values():
        found = read(line)
        assert (found.text, found.refusal, found.error) == (None, "I can't", None)


ARGUMENTS = '{"label": "x"}'
CALLS: dict[str, dict[str, Any]] = {
    "chat": chat(tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": ARGUMENTS}}]),
    "chat: legacy": chat(function_call={"name": "f", "arguments": ARGUMENTS}),
    "chat: a part": chat(content=[{"type": "tool_use", "name": "f", "input": {"label": "x"}}]),
    "chat: custom": chat(tool_calls=[{"type": "custom", "custom": {"name": "f", "input": ARGUMENTS}}]),
    "responses": response(REASONING, {"type": "function_call", "name": "f", "arguments": ARGUMENTS, "call_id": "c"}),
    "responses: custom": response({"type": "custom_tool_call", "name": "f", "input": ARGUMENTS}),
    "message": message(THINKING, {"type": "tool_use", "id": "t", "name": "f", "input": {"label": "x"}}),
}


@pytest.mark.parametrize("body", CALLS.values(), ids=CALLS)
def test_a_tool_call_is_an_answer(body: dict[str, Any]) -> None:
    for line in lines_of(body).values():
        found = read(line)
        assert [call._asdict() for call in found.calls] == [{"name": "f", "arguments": {"label": "x"}}]
        assert (found.text, found.error) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [("", ""), ("{", "{"), ("[1]", [1]), ('"\\ud800"', '"\\ud800"'), ("[" * 400 + "]" * 400, "[" * 400 + "]" * 400)],
)
def test_arguments_that_are_no_json_are_kept_as_text(arguments: str, kept: Any) -> None:
    found = read(lines_of(chat(tool_calls=[{"function": {"name": "f", "arguments": arguments}}]))["openai"])
    assert [call.arguments for call in found.calls] == [kept]


def test_with_one_function_to_call_its_arguments_are_what_is_parsed() -> None:
    schema = {"type": "object", "properties": {"label": {"enum": ["x", "y"]}}, "required": ["label"]}
    called = {name: read(lines_of(body)["openai"]) for name, body in CALLS.items() if name != "message"}
    assert [AnswerSchema(schema, "f").check(answer)[1] for answer in called.values()] == [{"label": "x"}] * len(called)
    answer = called["chat"]
    assert AnswerSchema(schema).check(answer) == (answer, None)
    wrong = read(lines_of(message({"type": "tool_use", "name": "f", "input": {"label": "z"}}))["anthropic"])
    judged, parsed = AnswerSchema(schema, "f").check(wrong)
    assert (judged.error, parsed) == (("invalid", "at /label: 'z' is not one of ['x', 'y']"), None)


CUT: dict[str, dict[str, Any]] = {
    "chat": chosen({"finish_reason": "length", "message": {"content": "half"}}),
    "responses": response(
        said(output_text("half")), status="incomplete", incomplete_details={"reason": "max_output_tokens"}
    ),
    "message": message({"type": "text", "text": "half"}, stop_reason="max_tokens"),
}


@pytest.mark.parametrize("body", CUT.values(), ids=CUT)
def test_an_answer_that_was_cut_off_is_counted(body: dict[str, Any]) -> None:
    for line in lines_of(body).values():
        found = scan_line(json.dumps(line).encode())
        assert found is not None
        assert (found[1], found[-1]) == (None, Marks.CUT)
        assert read(line).is_cut


def refused(status: Any, body: Any, error: Any = None) -> dict[str, Any]:
    return {"custom_id": KEY, "response": {"status_code": status, "request_id": "r", "body": body}, "error": error}


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


WHOLE = json.dumps(lines_of(chat(content="yes"))["openai"])
ODD: dict[str, tuple[bytes, str, Repair]] = {
    "carriage return": (WHOLE.encode() + b"\r\n", "yes", Repair.NONE),
    "byte order mark": (b"\xef\xbb\xbf" + WHOLE.encode() + b"\r\n", "yes", Repair.BYTE_ORDER_MARK),
    "half a pair": (WHOLE.replace("yes", "yes \\ud83d").encode(), "yes \ufffd", Repair.SURROGATE),
    "the other half": (WHOLE.replace("yes", "\\uDE00 yes").encode(), "\ufffd yes", Repair.SURROGATE),
    "a pair, and a half": (WHOLE.replace("yes", "\\ud83d\\ude00\\ud83d").encode(), "\U0001f600\ufffd", Repair.SURROGATE),
    "no escape": (WHOLE.replace("yes", "\\\\ud83d").encode(), "\\ud83d", Repair.NONE),
    "half a pair elsewhere": (WHOLE.replace('"r"', '"\\ud83d"').encode(), "yes", Repair.SURROGATE),
    "NaN": (WHOLE.replace('"r"', "NaN").encode(), "yes", Repair.NUMBER),
    "Infinity": (WHOLE.replace('"r"', "[-Infinity, Infinity]").encode(), "yes", Repair.NUMBER),
    "a number beyond a double": (WHOLE.replace('"r"', "1e999").encode(), "yes", Repair.NONE),
    "a control character": (WHOLE.replace("yes", "y\x01s").encode(), "y\x01s", Repair.CONTROL),
    "a null in the text": (WHOLE.replace("yes", "y\0s").encode(), "y\0s", Repair.CONTROL),
    "nulls behind": (WHOLE.encode() + b"\0\0\n", "yes", Repair.CONTROL),
    "no UTF-8": (WHOLE.encode().replace(b"yes", b"y\xffs"), "y\ufffds", Repair.ENCODING),
    "a field twice": (WHOLE.replace('"content"', '"content": "no", "content"').encode(), "yes", Repair.NONE),
}  # fmt: skip


@pytest.mark.parametrize(("data", "text", "repair"), ODD.values(), ids=ODD)
def test_one_odd_byte_loses_no_answer(data: bytes, text: str, repair: Repair) -> None:
    """The answer is used, and what was repaired is counted: nothing passes silently."""
    assert read(data).text == text
    found = scan_line(data)
    assert found is not None
    assert found[-1] == repaired(repair)


@pytest.mark.parametrize(
    "data",
    [WHOLE[:-5].encode(), WHOLE.replace(":", "", 1).encode(), WHOLE.encode() * 2, b"\xef\xbb\xbf", b"\0\0", b"'" + WHOLE.encode()],
)  # fmt: skip
def test_what_is_truly_unreadable_stays_so(data: bytes) -> None:
    assert scan_line(data) is long_way(data) is None


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


VALUES: list[Any] = [
    None, True, 0, -1, 3, 2.5, 1e300, "", " ", "text", "failed", "incomplete", "length", "error", [], {}, [None], [""],
    ["a"], [{}], {"type": "text", "text": "t"}, {"type": "output_text", "text": " "}, [{"type": "text", "text": "t"}],
    {"type": "tool_use", "name": "f", "input": {}}, {"name": "f", "arguments": "{}"}, {"code": "c", "message": "m"},
    {"error": {"code": 500}}, {"detail": [{"loc": ["a"], "msg": "b"}]}, {"value": "v"}, {"reason": "max_output_tokens"},
    10**18, "\ud83d", "x\0y",
]  # fmt: skip
BODIES = [body for table in (NOTHING, REFUSALS, CALLS, CUT) for body in table.values()]
BODIES += [body for body, *_ in [*TEXTS.values(), *OWN_ERRORS.values()]]
LINES = [line for body in BODIES for line in lines_of(body).values()] + [line for line, *_ in ERRORS.values()]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) within a value."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        keys: Any = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            waiting.append(node[key])
    return found


@settings(max_examples=1_000 if FUZZ else 300, deadline=None, derandomize=not FUZZ, database=None)
@given(data=st.data())
def test_no_mutation_makes_an_answer_of_nothing(data: st.DataObject) -> None:
    """Both ways agree on every line, none ends in a traceback, and what counts as answered holds something."""
    line = deepcopy(data.draw(st.sampled_from(LINES)))
    for _ in range(data.draw(st.integers(1, 3))):
        where = places(line)
        container, key = where[data.draw(st.integers(0, len(where) - 1))]
        what = data.draw(st.sampled_from(("value", "drop", "twin", "surrogate")))
        if what == "drop":
            del container[key]
        elif what == "twin" and isinstance(container, list):
            container.append(deepcopy(container[key]))
        else:
            container[key] = deepcopy(data.draw(st.sampled_from(VALUES)))
        if not places(line):
            break
    text = json.dumps(line)
    raw = text.encode()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(raw)))
        odd = data.draw(
            st.sampled_from([b"\xff", b"\0", b"NaN", b"\\ud800", b"\xef\xbb\xbf", b",", b'"', b"}", b"1e999"])
        )
        raw = raw[:at] + odd + raw[at + data.draw(st.integers(0, 2)) :]
    found = scan_line(raw)
    assert found == long_way(raw), raw
    parsed = read_line(raw)
    if parsed is not None and found is not None and found[1] is None:
        answer = answer_of(parsed)
        assert (answer.text or "").strip() or answer.refusal or answer.calls, raw
