"""Indexing reads the usual result line by a shorter way; it must say what the long way says, whatever the line."""

from __future__ import annotations

import copy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.executor.answers import answer_of, glance, read_line

USUAL: dict[str, Any] = {
    "custom_id": "k1-" + "a" * 40,
    "response": {
        "status_code": 200,
        "body": {
            "model": "m",
            "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 1}},
        },
    },
    "error": None,
}
PATHS: list[tuple[str, ...]] = [
    ("custom_id",),
    ("error",),
    ("result",),
    ("response",),
    ("response", "status_code"),
    ("response", "body"),
    ("response", "body", "model"),
    ("response", "body", "choices"),
    ("response", "body", "output"),
    ("response", "body", "usage"),
    ("response", "body", "usage", "prompt_tokens"),
    ("response", "body", "usage", "input_tokens"),
    ("response", "body", "usage", "completion_tokens"),
    ("response", "body", "usage", "prompt_tokens_details"),
    ("response", "body", "usage", "prompt_tokens_details", "cached_tokens"),
]
ODD = st.sampled_from(
    [None, True, 0, -1, 2.5, 400, 503, "", "text", [], [1], {}, {"type": "succeeded"}, {"code": "c", "message": "m"}]
)


def long_way(data: bytes) -> object:
    line = read_line(data)
    if line is None:
        return None
    answer = answer_of(line)
    tokens = (answer.input_tokens or 0, answer.output_tokens or 0, answer.cached_tokens or 0)
    return line.custom_id, answer.error and answer.error[0], answer.model, *tokens


@settings(max_examples=400, deadline=None)
@given(changes=st.lists(st.tuples(st.sampled_from(PATHS), ODD | st.just("GONE")), max_size=3))
def test_both_ways_say_the_same(changes: list[tuple[tuple[str, ...], Any]]) -> None:
    line = copy.deepcopy(USUAL)
    for path, value in changes:
        inner: Any = line
        for name in path[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if not isinstance(inner, dict):
            continue
        if value == "GONE":
            inner.pop(path[-1], None)
        else:
            inner[path[-1]] = value
    data = orjson.dumps(line)
    assert glance(data) == long_way(data)


def test_the_usual_line() -> None:
    assert glance(orjson.dumps(USUAL)) == ("k1-" + "a" * 40, None, "m", 5, 3, 1)
    for broken in (b"", b"[]", b"7", b"null", b'{"custom_id": "x"', b'{"custom_id": "x"}'):
        assert glance(broken) == long_way(broken)
