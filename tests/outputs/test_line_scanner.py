"""Indexing reads the usual result lines by a shorter way; it must say what the long way says, whatever the line."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.base.retryable import ErrorKind
from runner.outputs import line_scanner as short
from runner.outputs.line_scanner import Marks, ScannedLine, repaired, scan_line
from runner.outputs.result_lines import answer_of, read_line

KEY = "k1-" + "a" * 40
CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes\n"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}},
}
RESPONSE: dict[str, Any] = {
    "object": "response",
    "status": "completed",
    "model": "m",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "yes"}]}],
    "usage": {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 3},
}
MESSAGE: dict[str, Any] = {
    "type": "message",
    "model": "m",
    "content": [{"type": "text", "text": "yes"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "cache_read_input_tokens": 1, "output_tokens": 3},
}


def guide(body: object) -> dict[str, Any]:
    return {"custom_id": KEY, "response": body, "error": None}


def openai(body: object) -> dict[str, Any]:
    return {"id": "batch_req_1", "custom_id": KEY, "response": {"status_code": 200, "body": body}, "error": None}


USUAL: dict[str, dict[str, Any]] = {
    "guide, chat": guide(CHAT),
    "guide, responses": guide(RESPONSE),
    "guide, message": guide(MESSAGE),
    "openai, chat": openai(CHAT),
    "openai, responses": openai(RESPONSE),
    "anthropic": {"custom_id": KEY, "result": {"type": "succeeded", "message": MESSAGE}},
}
FAILED: list[dict[str, Any]] = [
    {"custom_id": KEY, "response": None, "error": {"code": "server_error", "message": "no"}},
    {"custom_id": KEY, "response": {"status_code": 429, "body": {"error": {"code": "rate"}}}, "error": None},
    {"custom_id": KEY, "result": {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded"}}}},
    {"custom_id": KEY, "result": {"type": "expired"}},
]


ANSWERED: ScannedLine = (KEY, None, ErrorKind.REFUSED, "m", 5, 3, 1, 0, 0, 0)


def long_way(data: bytes) -> object:
    line = read_line(data)
    if line is None:
        return None
    answer = answer_of(line)
    counts = answer.input_tokens, answer.output_tokens, answer.cached_tokens
    tokens = (*counts, answer.written_tokens, answer.written_hour_tokens)
    marks = repaired(line.repair) + Marks.CUT * answer.is_cut + Marks.ODD_USAGE * answer.odd_usage
    code = answer.error and answer.error[0]
    return line.custom_id, code, answer.kind, answer.model, *(count or 0 for count in tokens), marks


@pytest.mark.parametrize("line", USUAL.values(), ids=USUAL)
def test_usual_lines_are_read_the_short_way(line: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(short, "_full_parse")
    assert scan_line(json.dumps(line).encode()) == ANSWERED
    assert scan_line(json.dumps({**line, "custom_id": "ü\U0001f600"}, ensure_ascii=False).encode())


EMPTY = [{}, [], "", False, 0, {"code": "", "message": ""}, {"code": None, "message": None, "param": {}}]


@pytest.mark.parametrize("error", EMPTY, ids=json.dumps)
def test_an_empty_error_beside_an_answer_is_none(error: object) -> None:
    """The answer was paid for. Beside no answer it says at least that something went wrong."""
    for line in USUAL.values():
        data = json.dumps({**line, "error": error}).encode()
        assert scan_line(data) == long_way(data) == ANSWERED
    for response in (None, {}, {"status_code": 200, "body": None}, {"choices": None}):
        data = json.dumps({"custom_id": KEY, "response": response, "error": error}).encode()
        assert scan_line(data) == long_way(data) == (KEY, "no_text", ErrorKind.EMPTY, None, 0, 0, 0, 0, 0, 0)
    data = json.dumps({**USUAL["guide, chat"], "error": {"code": "", "message": "no"}}).encode()
    assert scan_line(data) == long_way(data) == (KEY, "unknown_error", ErrorKind.REFUSED, None, 0, 0, 0, 0, 0, 0)


# What a hostile or careless writer may put in place of a value, as it stands in the text.
VALUES = [
    "null", "true", "0", "-0", "-1", "2.5", "5.0", "1e2", "1e999", "-1e999", "9" * 19, "9" * 25, "1" + "0" * 400,
    "18446744073709551615", "4611686018427387905", "200", "399", "400", "503", '""', '"text"', '"succeeded"', "[]",
    "[1]", "[{}]", "[null]", "{}", '{"type": "succeeded"}', '{"code": "c", "message": "m"}', '{"custom_id": "other"}',
    '{"choices": []}', '"\\u0061"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\x"', '"ü"', "NaN", "Infinity", "01", "1.", "nul",
    "[" * 300 + "]" * 300, json.dumps(CHAT), json.dumps(MESSAGE), json.dumps(RESPONSE),
]  # fmt: skip
NAMES = [
    "custom_id", "error", "response", "result", "status_code", "body", "message", "type", "model", "choices", "output",
    "content", "usage", "prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "cached_tokens",
    "prompt_tokens_details", "input_tokens_details", "cache_read_input_tokens", "custom\\u005fid", "else",
]  # fmt: skip


def scrambled(value: object, chance: random.Random) -> str:
    """JSON text of a value: keys in any order, some twice, some gone, some odd, spaces anywhere."""
    if not isinstance(value, dict):
        return json.dumps(value) if chance.random() < 0.95 else chance.choice(VALUES)
    pairs = [(json.dumps(name)[1:-1], scrambled(inner, chance)) for name, inner in value.items()]
    for _ in range(chance.choice([0, 0, 0, 0, 1, 2])):
        pairs.append((chance.choice(NAMES), chance.choice(VALUES)))
    if chance.random() < 0.3:
        chance.shuffle(pairs)
    if pairs and chance.random() < 0.1:
        pairs.pop(chance.randrange(len(pairs)))
    space = chance.choice(["", "", " ", "\t"])
    return "{" + ",".join(f'{space}"{name}"{space}:{space}{text}' for name, text in pairs) + space + "}"


@pytest.mark.parametrize("examples", [400, pytest.param(3_000, marks=pytest.mark.slow)])
def test_both_ways_say_the_same_of_any_json(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(line=st.sampled_from([*USUAL.values(), *FAILED]), seed=st.integers(0, 1 << 32))
    def agree(line: dict[str, Any], seed: int) -> None:
        data = scrambled(line, random.Random(seed)).encode()
        assert scan_line(data) == long_way(data), data

    agree()


BYTES = [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\x00", b"\x01", b"\\", b'"', b"{", b"}", b"[", b",", b":", b"1e999",
         b"NaN", b" ", b"\n", b"\r", b"\xef\xbb\xbf", b"\\u0000", b"\xc3\xbc", b"{}", b"7"]  # fmt: skip


@pytest.mark.parametrize("examples", [400, pytest.param(2_000, marks=pytest.mark.slow)])
def test_both_ways_say_the_same_of_any_bytes(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        line=st.sampled_from([*USUAL.values(), *FAILED]),
        cuts=st.lists(
            st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(BYTES)), min_size=1, max_size=3
        ),
    )
    def agree(line: dict[str, Any], cuts: list[tuple[int, int, bytes]]) -> None:
        data = json.dumps(line).encode()
        for at, length, put in cuts:
            data = data[:at] + put + data[at + length :]
        assert scan_line(data) == long_way(data), data

    agree()


@pytest.mark.parametrize("data", [b"", b"\n", b"[]", b"7", b"null", b"{}", b'{"custom_id": "x"', b'{"custom_id": "x"}'])
def test_what_is_no_result_line(data: bytes) -> None:
    assert scan_line(data) is long_way(data) is None


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_a_number_that_nobody_reads_loses_no_answer(number: str) -> None:
    """JSON has no largest number. An answer that was paid for is used although a field beside it can't be held."""
    data = json.dumps(openai({**CHAT, "logprobs": 7})).replace("7}", number + "}").encode()
    line = read_line(data)
    assert line is not None
    assert answer_of(line).text == "yes\n"
    assert scan_line(data) == ANSWERED
