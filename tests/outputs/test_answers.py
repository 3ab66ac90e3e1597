"""What a result line means: text, a refusal or a tool call is an answer; nothing else is. In every shape, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runner.base.retryable import ErrorKind, is_retryable
from runner.outputs.line_scanner import Marks, scan_line
from runner.outputs.schema_check import AnswerSchema
from tests.outputs.bodies import (
    KEY,
    REASONING,
    THINKING,
    chat,
    chosen,
    lines_of,
    message,
    output_text,
    read,
    response,
    said,
)

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
