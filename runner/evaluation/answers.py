"""One answer of an output, as graders see it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple


class Outcome(IntEnum):
    """Whether an answer could be graded, and if not, why. All but GRADED score 0."""

    GRADED = 0
    FAILED = 1
    REFUSED = 2
    CUT_OFF = 3
    NO_ANSWER = 4


OUTCOME_NAMES = {
    Outcome.FAILED: "failed",
    Outcome.REFUSED: "refused",
    Outcome.CUT_OFF: "cut_off",
    Outcome.NO_ANSWER: "no_answer",
}
"""The names under which answers without a score are counted: failed requests, refusals, answers cut off at the token
limit, and answers in which a grader finds nothing to grade.
"""
UNSETTLED = frozenset({"not_submitted", "unanswered", "in_flight", "unknown"})
"""Error codes of rows whose request has no final answer yet."""
_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "incomplete"})
"""Finish reasons of answers that the token limit cut off (OpenAI's and Anthropic's API references)."""
_REFUSED = frozenset({"refusal", "content_filter"})
_GRADED = Outcome.GRADED
_FENCE = re.compile(r"^```[a-zA-Z]*\n(.*)\n```$", re.DOTALL)


class Answer(NamedTuple):
    """One answer. `outcome` is GRADED unless there is nothing to grade; `settled` is False before the final answer."""

    text: str | None
    parsed: Any
    tool_calls: Any
    refusal: str | None
    outcome: Outcome
    settled: bool = True

    def at(self, path: str) -> Any:
        """Return the value at a path, such as parsed.total."""
        outer, *inner = path.split(".")
        value: Any = getattr(self, outer)
        if outer == "parsed" and value is None:
            value = json_of(self.text)
        return value_at(value, inner)


MISSING = Answer(None, None, None, None, Outcome.FAILED)
"""The answer of a row that the output leaves out because its request failed."""


def read_answer(row: Mapping[str, Any]) -> Answer:
    """Return the answer in an output row, of any format."""
    if (
        row.get("finish_reason") == "stop"
        and row.get("parsed", row) is None
        and row.get("refusal") is None
        and row.get("error", row) is None
        and row.get("tool_calls") is None
        and type(text := row.get("text")) is str
    ):
        return Answer(text, None, None, None, _GRADED)
    error = row.get("error")
    code = error.get("code") if isinstance(error, dict) else row.get("error_code") or None
    text, refusal, reason = row.get("text"), row.get("refusal"), row.get("finish_reason")
    calls = _from_json(row.get("tool_calls"))
    parsed = row["parsed"] if "parsed" in row else _flat_parsed(row)
    if code is not None:
        outcome = Outcome.FAILED
    elif refusal or reason in _REFUSED:
        outcome = Outcome.REFUSED
    elif reason in _CUT_OFF:
        outcome = Outcome.CUT_OFF
    else:
        outcome = Outcome.GRADED
    return Answer(
        text if isinstance(text, str) else None,
        _from_json(parsed) if isinstance(parsed, str) else parsed,
        calls,
        refusal if isinstance(refusal, str) else None,
        outcome,
        code not in UNSETTLED,
    )


def value_at(value: Any, path: list[str]) -> Any:
    """Return the value at a path of keys and list positions."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def json_of(text: str | None) -> Any:
    """Return a text's JSON value, which may be in a Markdown fence."""
    if text is None:
        return None
    bare = text.strip()
    fenced = _FENCE.match(bare)
    return _from_json(fenced[1] if fenced else bare)


def _from_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _flat_parsed(row: Mapping[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name.startswith("parsed."):
            plain = _from_json(value) if isinstance(value, str) else value
            found[name.removeprefix("parsed.")] = value if plain is None else plain
    return found or None
