"""Damaged result lines: both ways to read them agree, and nothing becomes an answer."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.outputs.line_scanner import repaired, scan_line
from runner.outputs.result_lines import answer_of, read_line
from runner.outputs.tolerant_json import Repair
from tests.outputs.bodies import chat, lines_of, long_way, read
from tests.outputs.test_answer_errors import ERRORS, OWN_ERRORS
from tests.outputs.test_answers import CALLS, CUT, NOTHING, REFUSALS, TEXTS

FUZZ = bool(os.environ.get("BATCHSPEC_FUZZ"))
"""`make fuzz` tries more lines, and others each time."""


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
