"""What each grader makes of an answer."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from runner.evaluation.answers import Answer, Outcome, read_answer
from runner.evaluation.expectations import GradingError
from runner.evaluation.graders.compiled import Grade, compile_grader
from runner.evaluation.graders.numbers import parse_number
from runner.evaluation.graders.text import token_f1
from runner.jobspec.evaluate_options import Grader
from runner.planner.templates.environment import Templates

ADAPTER: TypeAdapter[Any] = TypeAdapter(Grader)


def grade(grader: dict[str, Any], text: str | None, row: dict[str, Any] | None = None, **fields: Any) -> Grade:
    made = compile_grader("g", ADAPTER.validate_python(grader), Templates(Path(), {}))
    return made(read_answer({"text": text, **fields}), row or {})


def score(grader: dict[str, Any], text: str | None, row: dict[str, Any] | None = None, **fields: Any) -> float | None:
    """The score, or None if there was nothing to grade."""
    found = grade(grader, text, row, **fields)
    return None if found.outcome is Outcome.NO_ANSWER else found.score


@pytest.mark.parametrize(
    ("grader", "text", "row", "expected"),
    [
        ({"type": "exact", "expect": "{{ a }}"}, "Paris", {"a": "Paris"}, 1),
        ({"type": "exact", "expect": "{{ a }}"}, "paris", {"a": "Paris"}, 0),
        ({"type": "exact", "expect": "{{ a }}", "normalize": ["case", "space"]}, " PARIS\n", {"a": "paris"}, 1),
        ({"type": "exact", "expect": "{{ a }}"}, "caf\u00e9", {"a": "cafe\u0301"}, 1),
        ({"type": "exact", "expect": "{{ a }}", "normalize": ["accents"]}, "cafe", {"a": "caf\u00e9"}, 1),
        ({"type": "exact", "expect": "{{ a }}", "normalize": ["punctuation"]}, "Paris.", {"a": "Paris"}, 1),
        ({"type": "exact", "expect": ["yes", "{{ a }}"]}, "oui", {"a": "oui"}, 1),
        ({"type": "exact", "expect": "{{ a }}"}, "b", {"a": ["a", "b"]}, 1),
        ({"type": "exact", "expect": 4}, "4", {}, 1),
        ({"type": "exact", "expect": "x"}, None, {}, None),
        ({"type": "contains", "any": ["cat", "dog"]}, "a dog", {}, 1),
        ({"type": "contains", "all": ["cat", "dog"]}, "a dog", {}, 0),
        ({"type": "contains", "all": ["{{ a }}"], "normalize": ["case"]}, "A DOG", {"a": "dog"}, 1),
        ({"type": "regex", "pattern": r"^\d{4}$"}, "2026", {}, 1),
        ({"type": "regex", "pattern": r"^\d{4}$"}, "year 2026", {}, 0),
        ({"type": "number", "expect": "{{ a }}"}, "$1,234.50", {"a": 1234.5}, 1),
        ({"type": "number", "expect": "{{ a }}"}, "\u22123", {"a": "-3"}, 1),
        ({"type": "number", "expect": 0.5}, "50%", {}, 1),
        ({"type": "number", "expect": 100, "tolerance": "0.5%"}, "100.5", {}, 1),
        ({"type": "number", "expect": 100, "tolerance": "0.5%"}, "100.51", {}, 0),
        ({"type": "number", "expect": 0.3, "tolerance": 0.1}, "0.2", {}, 1),
        ({"type": "number", "expect": 3}, "three", {}, None),
        ({"type": "number", "expect": 42, "extract": {"regex": r"####\s*(\S+)"}}, "6 * 7\n#### 42", {}, 1),
        ({"type": "number", "expect": 7, "extract": {"regex": r"\d+", "take": "last"}}, "3 and then 7 apples", {}, 1),
        ({"type": "choice", "expect": "B"}, "(B) because it is", {}, 1),
        ({"type": "choice", "expect": "B"}, "The answer is B.", {}, 1),
        ({"type": "choice", "expect": "B"}, "A or B", {}, None),
        ({"type": "choice", "expect": "B"}, "A good question; B", {}, 1),
        ({"type": "choice", "expect": "B"}, "b", {}, 1),
        ({"type": "choice", "expect": "B"}, "no idea", {}, None),
        ({"type": "choice", "expect": "B", "options": ["red", "green"], "letters": "A-B"}, "Green.", {}, 1),
        ({"type": "choice", "expect": "green", "options": ["red", "{{ o }}"], "letters": "A-B"}, "B", {"o": "green"}, 1),
        ({"type": "choice", "expect": "C", "letters": "A-C"}, "D", {}, None),
        ({"type": "label", "labels": ["yes", "no"], "expect": "{{ a }}"}, "**Yes**.", {"a": "yes"}, 1),
        ({"type": "label", "labels": ["yes", "no"], "expect": "{{ a }}"}, "maybe", {"a": "yes"}, 0),
        ({"type": "label", "labels": ["yes", "no"], "expect": "{{ a }}"}, " ", {"a": "yes"}, None),
        ({"type": "json", "expect": {"a": 1}}, '{"a": 1.0}', {}, 1),
        ({"type": "json", "expect": {"a": 1}}, '```json\n{"a": 1}\n```', {}, 1),
        ({"type": "json", "expect": {"a": 1}}, '{"a": true}', {}, 0),
        ({"type": "json", "expect": {"a": 1}}, '{"a": 1, "b": 2}', {}, 0),
        ({"type": "json", "expect": {"a": 1}, "match": "subset"}, '{"a": 1, "b": 2}', {}, 1),
        ({"type": "json", "expect": {"a": [1, 2]}}, '{"a": [2, 1]}', {}, 0),
        ({"type": "json", "expect": {"a": [1, 2]}, "unordered": ["a"]}, '{"a": [2, 1]}', {}, 1),
        ({"type": "json", "expect": "{{ a }}"}, '{"x": 1}', {"a": '{"x": 1}'}, 1),
        ({"type": "json", "expect": {"a": 1}}, "no JSON", {}, None),
        ({"type": "f1", "expect": "the cat sat"}, "A cat sat down.", {}, 0.8),
        ({"type": "f1", "expect": ["dog", "cat"]}, "cat", {}, 1),
        ({"type": "expression", "expression": "answer | length < 5"}, "four", {}, 1),
        ({"type": "expression", "expression": "0.25 if expect in answer else 0", "expect": "{{ a }}"}, "xay", {"a": "a"}, 0.25),
        ({"type": "expression", "expression": "parsed.a == row.a"}, '{"a": 3}', {"a": 3}, 1),
        ({"type": "exact", "expect": "b", "extract": {"line": "last"}}, "a\n b \n\n", {}, 1),
        ({"type": "exact", "expect": "ßé", "extract": {"regex": "ü(..)"}}, "Grüßé 😀 üb", {}, 1),
        ({"type": "exact", "expect": "", "extract": {"regex": "x(y?)"}}, "é x", {}, 1),
        ({"type": "regex", "pattern": "^.😀$"}, "é😀", {}, 1),
        ({"type": "exact", "expect": "C", "extract": {"letter": "A-E"}}, "It is C, not D", {}, 1),
        ({"type": "exact", "expect": "D", "extract": {"letter": "A-E", "take": "last"}}, "It is C, no: D", {}, 1),
        ({"type": "exact", "expect": "5", "extract": {"json": "a.b"}}, 'so {"a": {"b": 5}} it is', {}, 1),
    ],
)  # fmt: skip
def test_scores(grader: dict[str, Any], text: str | None, row: dict[str, Any], expected: float | None) -> None:
    assert score(grader, text, row) == (None if expected is None else pytest.approx(expected))


def test_a_parsed_answer_is_graded_by_path() -> None:
    grader = {"type": "number", "answer": "parsed.total", "expect": 3}
    assert score(grader, None, parsed={"total": 3}) == 1
    assert score(grader, "3", parsed={"sum": 3}) is None
    assert grade({**grader, "answer": "parsed.items.0"}, None, parsed={"items": [3]}).score == 1


def test_fields_of_json_are_scored_apart() -> None:
    grader = {"type": "json", "expect": {"a": 1, "b": [1, 2]}, "fields": True, "unordered": ["b"]}
    found = grade(grader, '{"a": 2, "b": [2, 1]}')
    assert (found.score, found.fields) == (0, {"a": 0, "b": 1})
    assert grade(grader, "nothing").fields == {"a": 0, "b": 0}


def test_a_label_outside_the_list_is_other() -> None:
    grader = {"type": "label", "labels": ["yes", "no"], "expect": "{{ a }}"}
    assert (grade(grader, "maybe", {"a": "no"}).expected, grade(grader, "maybe", {"a": "no"}).found) == (1, 2)
    assert grade(grader, None, {"a": "no"}).found == -1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234", "1234"), ("1.234.567", "1234567"), ("1.234,56", "1234.56"), ("1,234.56", "1234.56"),
        ("1 234,5", "1234.5"), ("1\u202f234", "1234"), ("1'234.5", "1234.5"), ("12,5", "12.5"), ("1,23,456", "123456"),
        ("+7", "7"), ("-7", "-7"), ("\u22127", "-7"), ("$-7", "-7"), ("\u20ac 7.50", "7.50"), ("7 EUR", "7"),
        ("USD 7", "7"), ("45%", "0.45"), ("1e3", "1000"), (".5", "0.5"), ("7.", "7"), ("**42**", "42"), ("0.1", "0.1"),
        ("seven", None), ("7 or 8", None), ("", None), ("--7", None), ("1,2.3,4", None), ("7" * 200, None),
    ],
)  # fmt: skip
def test_numbers(text: str, value: str | None) -> None:
    assert parse_number(text) == (None if value is None else Decimal(value))


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [("the cat", "cat", 1), ("", "", 1), ("a the", "", 1), ("x", "", 0), ("cat cat", "cat", 2 / 3)],
)
def test_token_f1(answer: str, expected: str, score: float) -> None:
    assert token_f1(answer, expected) == pytest.approx(score)


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"text": "x", "error": None}, Outcome.GRADED),
        ({"text": None, "error": {"code": "server_error", "message": ""}}, Outcome.FAILED),
        ({"text": "", "error_code": "server_error"}, Outcome.FAILED),
        ({"text": None, "refusal": "no"}, Outcome.REFUSED),
        ({"text": "x", "finish_reason": "content_filter"}, Outcome.REFUSED),
        ({"text": "x", "finish_reason": "length"}, Outcome.CUT_OFF),
        ({"text": "x", "finish_reason": "max_tokens"}, Outcome.CUT_OFF),
        ({"text": "x", "finish_reason": "stop"}, Outcome.GRADED),
    ],
)
def test_answers_that_are_not_graded(row: dict[str, Any], outcome: Outcome) -> None:
    assert read_answer(row).outcome is outcome


def test_a_request_without_a_final_answer_is_not_settled() -> None:
    assert not read_answer({"text": None, "error": {"code": "in_flight", "message": ""}}).settled


def test_columns_of_csv_are_values() -> None:
    answer = read_answer({"text": '{"a": 1}', "parsed.a": "1", "parsed.b": "x", "error_code": None})
    assert answer.parsed == {"a": 1, "b": "x"}


@pytest.mark.parametrize(
    ("grader", "row", "message"),
    [
        ({"type": "exact", "expect": "{{ b }}"}, {"a": 1}, "evaluate.graders.g: the row has no column b"),
        ({"type": "exact", "expect": "x{{ b }}"}, {"a": 1}, "'b' is undefined"),
        ({"type": "number", "expect": "{{ a }}"}, {"a": "many"}, "expects 'many', which is no number"),
        ({"type": "json", "expect": "{{ a }}"}, {"a": "{"}, "expects '{', which is not JSON"),
        ({"type": "choice", "expect": "{{ a }}"}, {"a": "Z"}, "the expected answer is none of the options"),
        ({"type": "expression", "expression": "7"}, {}, "the expression gave '7'"),
    ],
)
def test_rows_that_can_not_be_graded(grader: dict[str, Any], row: dict[str, Any], message: str) -> None:
    with pytest.raises(GradingError, match=message):
        grade(grader, "A 1" if grader["type"] == "choice" else "1", row)


def test_an_expression_can_not_leave_the_sandbox() -> None:
    with pytest.raises(GradingError):
        grade({"type": "expression", "expression": "answer.__class__.__mro__"}, "x")


def test_answers_have_paths() -> None:
    answer = Answer("t", {"a": {"b": [7]}}, [{"name": "f"}], None, Outcome.GRADED)
    assert [answer.at(path) for path in ("text", "parsed.a.b.0", "tool_calls.0.name", "parsed.z.q")] == [
        "t",
        7,
        "f",
        None,
    ]
