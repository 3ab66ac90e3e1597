"""A spec's graders, ready to grade."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any, NamedTuple

import re2

from runner.evaluation.answers import Answer, Outcome, json_of
from runner.evaluation.expectations import Expectation, GradingError, Row, expectation
from runner.evaluation.graders.json_values import same
from runner.evaluation.graders.numbers import parse_number
from runner.evaluation.graders.text import extractor, normalizer, searcher, text_of, token_f1, trimmed
from runner.jobspec.evaluate_options import (
    LETTERS,
    ChoiceGrader,
    ContainsGrader,
    ExactGrader,
    ExpressionGrader,
    F1Grader,
    JsonGrader,
    LabelGrader,
    NumberGrader,
    PlainGrader,
    RegexGrader,
)
from runner.planner.templates.environment import Templates
from runner.planner.templates.step_limit import RowError

OTHER = "other"


class Grade(NamedTuple):
    """A score from 0 to 1. `outcome` is NO_ANSWER without anything to grade.

    `expected` and `found` are positions in the labels, -1 for none; `fields` are scores by JSON key.
    """

    score: float
    outcome: Outcome = Outcome.GRADED
    expected: int = -1
    found: int = -1
    fields: Mapping[str, float] = MappingProxyType({})


NOTHING = Grade(0.0, Outcome.NO_ANSWER)
_RIGHT, _WRONG = Grade(1.0), Grade(0.0)
Grading = Callable[[Answer, Row], Grade]


def compile_grader(name: str, model: PlainGrader, templates: Templates) -> Grading:
    """Return a grader's function. Raises jinja2.TemplateError."""
    label = f"evaluate.graders.{name}"
    match model:
        case ExactGrader():
            return _exact(model, expectation(templates, model.expect, label))
        case ContainsGrader():
            return _contains(model, [expectation(templates, one, label) for one in model.any or model.all or ()])
        case RegexGrader():
            return _regex(model)
        case NumberGrader():
            return _number(model, expectation(templates, model.expect, label), label)
        case ChoiceGrader():
            options = [expectation(templates, one, label) for one in model.options]
            return _choice(model, expectation(templates, model.expect, label), options, label)
        case LabelGrader():
            return _label(model, expectation(templates, model.expect, label))
        case JsonGrader():
            return _json(model, expectation(templates, model.expect, label), label)
        case F1Grader():
            return _f1(model, expectation(templates, model.expect, label))
        case ExpressionGrader():
            return _expression(model, templates, label)


def _graded_text(model: Any) -> Callable[[Answer], str | None]:
    path, extract = model.answer or "text", extractor(model.extract)
    if path == "text":
        if model.extract is None:
            return lambda answer: answer.text
        return lambda answer: None if answer.text is None else extract(answer.text)

    def graded(answer: Answer) -> str | None:
        value = answer.at(path)
        return None if value is None else extract(text_of(value))

    return graded


def _grade(is_right: bool) -> Grade:
    return _RIGHT if is_right else _WRONG


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _exact(model: ExactGrader, expect: Expectation) -> Grading:
    graded, normalize = _graded_text(model), normalizer(model.normalize)

    def grade(answer: Answer, row: Row) -> Grade:
        text = graded(answer)
        if text is None:
            return NOTHING
        return _grade(normalize(text) in {normalize(text_of(one)) for one in _members(expect(row))})

    return grade


def _contains(model: ContainsGrader, parts: Sequence[Expectation]) -> Grading:
    graded, normalize = _graded_text(model), normalizer(model.normalize)
    decide = any if model.any is not None else all

    def grade(answer: Answer, row: Row) -> Grade:
        text = graded(answer)
        if text is None:
            return NOTHING
        plain = normalize(text)
        wanted = [normalize(text_of(one)) for part in parts for one in _members(part(row))]
        return _grade(decide(one in plain for one in wanted))

    return grade


def _regex(model: RegexGrader) -> Grading:
    graded, search = _graded_text(model), searcher(re2.compile(model.pattern))

    def grade(answer: Answer, _row: Row) -> Grade:
        text = graded(answer)
        return NOTHING if text is None else _grade(search(text) is not None)

    return grade


def _number(model: NumberGrader, expect: Expectation, label: str) -> Grading:
    graded = _graded_text(model)
    tolerance, is_share = model.accepted

    def grade(answer: Answer, row: Row) -> Grade:
        text = graded(answer)
        number = None if text is None else parse_number(text)
        if number is None:
            return NOTHING
        for one in _members(expect(row)):
            wanted = _expected_number(one, label)
            if abs(number - wanted) <= (tolerance * abs(wanted) if is_share else tolerance):
                return _RIGHT
        return _WRONG

    return grade


def _expected_number(value: Any, label: str) -> Decimal:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        try:
            return Decimal(str(value))
        except InvalidOperation:
            pass
    wanted = parse_number(value) if isinstance(value, str) else None
    if wanted is None:
        raise GradingError(f"{label}: expects {str(value)[:80]!r}, which is no number", code="BS901")
    return wanted


_LETTER = re.compile(r"(?<![A-Za-z0-9'\u2019])\(?([A-Z])(?![A-Za-z0-9'\u2019])\)?")
_ARTICLE = re.compile(r"\s+(?!(?:or|and|is|was|as|because|since|but|not|nor)\b)[a-z]")


def _choice(model: ChoiceGrader, expect: Expectation, options: Sequence[Expectation], label: str) -> Grading:
    graded = _graded_text(model)
    bounds = LETTERS.match(model.letters)
    assert bounds is not None
    letters = [chr(code) for code in range(ord(bounds[1]), ord(bounds[2]) + 1)]

    def letter_of(text: str, texts: Sequence[str]) -> str | None:
        """Return the letter that a text names; None for two different ones."""
        bare = trimmed(text)
        if bare.upper() in letters:
            return bare.upper()
        if bare in texts:
            return letters[texts.index(bare)]
        named = {
            found[1]
            for found in _LETTER.finditer(text)
            if found[1] in letters and not (found[0] == "A" and _ARTICLE.match(text, found.end()))
        }
        if len(named) == 1:
            return named.pop()
        if named:
            return None
        within = {letters[n] for n, option in enumerate(texts) if option and option in bare}
        return within.pop() if len(within) == 1 else None

    def grade(answer: Answer, row: Row) -> Grade:
        text = graded(answer)
        texts = [trimmed(text_of(option(row))) for option in options][: len(letters)]
        found = None if text is None else letter_of(text, texts)
        if found is None:
            return NOTHING
        wanted = {letter_of(text_of(one), texts) for one in _members(expect(row))}
        if None in wanted:
            raise GradingError(f"{label}: the expected answer is none of the options", code="BS901")
        return _grade(found in wanted)

    return grade


def _label(model: LabelGrader, expect: Expectation) -> Grading:
    graded = _graded_text(model)
    numbers = {trimmed(name): number for number, name in enumerate(model.labels)}

    def grade(answer: Answer, row: Row) -> Grade:
        wanted = [numbers.get(trimmed(text_of(one)), len(numbers)) for one in _members(expect(row))]
        text = graded(answer)
        if text is None or not text.strip():
            return Grade(0.0, Outcome.NO_ANSWER, expected=wanted[0])
        found = numbers.get(trimmed(text), len(numbers))
        right = found in wanted and found < len(numbers)
        return Grade(float(right), expected=found if right else wanted[0], found=found)

    return grade


def _json(model: JsonGrader, expect: Expectation, label: str) -> Grading:
    path, extract = model.answer or "parsed", model.extract
    extract_text = extractor(extract) if extract is not None else None
    unordered = frozenset(tuple(one.split(".")) for one in model.unordered)
    subset = model.match == "subset"

    def value_of(answer: Answer) -> Any:
        value = answer.at(path)
        if extract_text is None:
            return value
        text = None if answer.text is None else extract_text(answer.text)
        return json_of(text)

    def grade(answer: Answer, row: Row) -> Grade:
        value = value_of(answer)
        wanted = _expected_json(expect(row), label)
        if value is None:
            return NOTHING if not model.fields else Grade(0.0, Outcome.NO_ANSWER, fields=_no_fields(wanted))
        is_same = same(value, wanted, subset=subset, unordered=unordered)
        if not model.fields or not isinstance(wanted, dict):
            return _grade(is_same)
        given = value if isinstance(value, dict) else {}
        fields = {
            name: float(name in given and same(given[name], one, subset=subset, unordered=unordered, path=(name,)))
            for name, one in wanted.items()
        }
        return Grade(float(is_same), fields=fields)

    return grade


def _no_fields(wanted: Any) -> dict[str, float]:
    return dict.fromkeys(wanted, 0.0) if isinstance(wanted, dict) else {}


def _expected_json(value: Any, label: str) -> Any:
    """Return an expectation as a JSON value; a text is JSON, as in CSV columns."""
    if not isinstance(value, str):
        return value
    wanted = json_of(value)
    if wanted is None:
        raise GradingError(f"{label}: expects {value[:80]!r}, which is not JSON", code="BS901")
    return wanted


def _f1(model: F1Grader, expect: Expectation) -> Grading:
    graded = _graded_text(model)

    def grade(answer: Answer, row: Row) -> Grade:
        text = graded(answer)
        if text is None:
            return NOTHING
        return Grade(max(token_f1(text, text_of(one)) for one in _members(expect(row))))

    return grade


def _expression(model: ExpressionGrader, templates: Templates, label: str) -> Grading:
    render = templates.compile_text(f"{{{{ {model.expression} }}}}", label)
    expect = expectation(templates, model.expect, label)
    graded = _graded_text(model)

    def grade(answer: Answer, row: Row) -> Grade:
        text = graded(answer)
        if text is None:
            return NOTHING
        names = {"answer": text, "parsed": answer.at("parsed"), "expect": expect(row)}
        try:
            made = render({**templates.namespace(dict(row)), **names})
        except RowError as error:
            raise GradingError(f"{label}: {error}", code="BS901") from error
        return Grade(_as_score(made.strip(), label))

    return grade


def _as_score(text: str, label: str) -> float:
    if text in {"True", "False"}:
        return float(text == "True")
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise GradingError(
            f"{label}: the expression gave {text[:80]!r}", hint="it must be true, false, or from 0 to 1", code="BS901"
        )
    return score
