"""`evaluate:` - graders, slices, comparisons and gates of a job's answers."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from runner.jobspec.base_model import FilePath, Model

GraderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Column = Annotated[str, Field(min_length=1, max_length=200)]
Scalar = Annotated[str, Field(max_length=10_000)] | int | float | bool
Expected = Scalar | list[Any] | dict[str, Any]
"""A Jinja text over the row, or a value; of a list, each member is accepted."""
AnswerPath = Annotated[str, Field(pattern=r"^(text|refusal|(parsed|tool_calls)(\.[^.]+)*)$", max_length=500)]
Take = Literal["first", "last"]
LETTERS = re.compile(r"^([A-Z])-([A-Z])$")
ACROSS = re.compile(r"^(?:mean|majority|pass@([1-9][0-9]{0,2}))$")
_PERCENT = re.compile(r"^\d+(\.\d+)?%$")


def check_pattern(pattern: str) -> str:
    """Return a pattern that RE2 takes. Raises ValueError."""
    import re2  # noqa: PLC0415  only specs with graders need it

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"is no pattern that RE2 takes: {reason}") from error
    return pattern


class Extract(Model):
    """The part of an answer that is graded: a match, a line, a letter, or a value of JSON in the text."""

    regex: Annotated[str, Field(max_length=1_000)] = Field(
        default="", description="RE2 pattern; its first group counts if it has one."
    )
    line: Take | None = Field(default=None, description="The first or last line that is not blank.")
    letter: Annotated[str, Field(pattern=LETTERS.pattern)] = Field(
        default="", description="A capital letter that is a word, such as A-E."
    )
    json_: Annotated[str, Field(max_length=500)] = Field(
        default="", alias="json", description="Path in a JSON object in the text, such as a.b."
    )
    take: Take = Field(default="first", description="Which match of regex, letter or json counts.")

    @field_validator("regex")
    @classmethod
    def _known_pattern(cls, pattern: str) -> str:
        return check_pattern(pattern)

    @model_validator(mode="after")
    def _one_way(self) -> Extract:
        given = [name for name in ("regex", "line", "letter", "json_") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("set one of `regex`, `line`, `letter` and `json`")
        return self


class _Grader(Model):
    answer: AnswerPath | None = Field(
        default=None, description="What is graded: text (the default), parsed, parsed.NAME; for json parsed."
    )
    extract: Extract | None = Field(default=None, description="The part of the text that is graded.")


class _Expecting(_Grader):
    expect: Expected = Field(description="The right answer: Jinja over the row, or a value; a list accepts any member.")


class ExactGrader(_Expecting):
    """The answer is the expected text."""

    type: Literal["exact"] = Field(description="The kind of grader.")
    normalize: tuple[Literal["case", "space", "punctuation", "accents"], ...] = Field(
        default=(), strict=False, description="Differences that do not count."
    )


class ContainsGrader(_Grader):
    """The answer contains any, or all, of some texts."""

    type: Literal["contains"] = Field(description="The kind of grader.")
    any: tuple[Scalar, ...] | None = Field(default=None, strict=False, min_length=1, description="One is enough.")
    all: tuple[Scalar, ...] | None = Field(default=None, strict=False, min_length=1, description="All are needed.")
    normalize: tuple[Literal["case", "space", "punctuation", "accents"], ...] = Field(
        default=(), strict=False, description="Differences that do not count."
    )

    @model_validator(mode="after")
    def _one_way(self) -> ContainsGrader:
        if (self.any is None) == (self.all is None):
            raise ValueError("set `any` or `all`")
        return self


class RegexGrader(_Grader):
    """A pattern occurs in the answer."""

    type: Literal["regex"] = Field(description="The kind of grader.")
    pattern: Annotated[str, Field(min_length=1, max_length=1_000)] = Field(description="RE2 pattern.")

    @field_validator("pattern")
    @classmethod
    def _known_pattern(cls, pattern: str) -> str:
        return check_pattern(pattern)


class NumberGrader(_Expecting):
    """The answer is the expected number, within a tolerance."""

    type: Literal["number"] = Field(description="The kind of grader.")
    tolerance: float | str = Field(default=0, description="Accepted difference: a number, or a share such as 0.5%.")

    @field_validator("tolerance")
    @classmethod
    def _number_or_share(cls, value: float | str) -> float | str:
        if isinstance(value, str) and not _PERCENT.match(value):
            raise ValueError("write a number, or a share such as 0.5%")
        if not isinstance(value, str) and not 0 <= value < float("inf"):
            raise ValueError("it must be at least 0")
        return value

    @property
    def accepted(self) -> tuple[Decimal, bool]:
        """Return the tolerance, and whether it is a share of the expected number."""
        if isinstance(self.tolerance, str):
            return Decimal(self.tolerance.removesuffix("%")) / 100, True
        return Decimal(str(self.tolerance)), False


class ChoiceGrader(_Expecting):
    """The answer names the right option, by letter or by its text."""

    type: Literal["choice"] = Field(description="The kind of grader.")
    options: tuple[Scalar, ...] = Field(
        default=(), strict=False, max_length=26, description="The options' texts: Jinja over the row, A first."
    )
    letters: Annotated[str, Field(pattern=LETTERS.pattern)] = Field(default="A-D", description="The options' letters.")


class LabelGrader(_Expecting):
    """The answer is one of some labels."""

    type: Literal["label"] = Field(description="The kind of grader.")
    labels: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field(
        strict=False, min_length=2, max_length=200, description="All labels; any other answer counts as `other`."
    )
    metrics: tuple[Literal["accuracy", "macro_f1", "f1"], ...] = Field(
        default=("accuracy",), strict=False, min_length=1, description="What to show: accuracy, macro_f1, f1."
    )

    @model_validator(mode="after")
    def _each_once(self) -> LabelGrader:
        folded = {label.casefold().strip() for label in self.labels}
        if len(folded) < len(self.labels):
            raise ValueError("two of `labels` are equal but for case")
        if "other" in folded:
            raise ValueError("`other` is the name for answers outside `labels`; choose another label")
        return self


class JsonGrader(_Expecting):
    """The answer is the expected JSON value."""

    type: Literal["json"] = Field(description="The kind of grader.")
    match: Literal["equal", "subset"] = Field(default="equal", description="`subset` allows further keys.")
    unordered: tuple[Annotated[str, Field(max_length=500)], ...] = Field(
        default=(), strict=False, description="Paths of lists whose order does not count, such as items or a.tags."
    )
    fields: bool = Field(default=False, description="Show the share of right values of each top-level key too.")


class F1Grader(_Expecting):
    """Token F1 as in SQuAD: between 0 and 1."""

    type: Literal["f1"] = Field(description="The kind of grader.")


class ExpressionGrader(_Grader):
    """A Jinja expression over row, answer, parsed and expect; true, false, or a number from 0 to 1."""

    type: Literal["expression"] = Field(description="The kind of grader.")
    expression: Annotated[str, Field(min_length=1, max_length=10_000)] = Field(
        description="Such as answer | length < 280."
    )
    expect: Expected | None = Field(default=None, description="What `expect` means in the expression.")


class PythonGrader(Model):
    """A Python file with `def grade(row, answer) -> float | None`. It runs only if the environment trusts it."""

    type: Literal["python"] = Field(description="The kind of grader.")
    file: FilePath = Field(description="Python file of the project, such as graders/style.py.")
    answer: AnswerPath | None = Field(
        default=None, description="What is graded: text (the default), parsed, parsed.NAME."
    )


PlainGrader = (
    ExactGrader
    | ContainsGrader
    | RegexGrader
    | NumberGrader
    | ChoiceGrader
    | LabelGrader
    | JsonGrader
    | F1Grader
    | ExpressionGrader
)
"""Graders that run no code of the project."""
Grader = Annotated[PlainGrader | PythonGrader, Field(discriminator="type")]


class Gate(Model):
    """A condition on a metric. `eval` exits with 5 if it does not hold."""

    metric: Annotated[str, Field(min_length=1, max_length=300)] = Field(description="NAME, NAME.macro_f1, NAME.f1.X.")
    at_least: float | None = Field(default=None, description="Smallest value.")
    at_most: float | None = Field(default=None, description="Largest value.")
    confident: bool = Field(default=False, description="The whole 95 % interval must hold, not only the value.")
    against: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Git revision to compare with; by default that of `evaluate.against`."
    )
    max_drop: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="The metric may be lower than the baseline's by this much."
    )
    slice: dict[Column, Scalar] = Field(default={}, max_length=1, description="Only rows with this value of a column.")
    undecided: Literal["fail", "warn"] = Field(default="fail", description="What an undecided gate does.")

    @model_validator(mode="after")
    def _one_condition(self) -> Gate:
        if sum(value is not None for value in (self.at_least, self.at_most, self.max_drop)) != 1:
            raise ValueError("set one of `at_least`, `at_most` and `max_drop`")
        if self.max_drop is None and self.against is not None:
            raise ValueError("`against` goes with `max_drop`")
        if self.max_drop is not None and self.confident:
            raise ValueError("`max_drop` always uses the interval; remove `confident`")
        return self


class Evaluate(Model):
    """How a job's answers are graded. Grading reads files only, and calls no model."""

    graders: dict[GraderName, Grader] = Field(
        min_length=1, max_length=50, description="Graders by name; the name is the metric's."
    )
    cluster: Column | None = Field(default=None, description="Column; rows with the same value belong together.")
    slices: tuple[Column, ...] = Field(
        default=(), strict=False, max_length=20, description="Columns; each metric is also shown by their values."
    )
    across: Annotated[str, Field(pattern=ACROSS.pattern)] = Field(
        default="mean", description="One score from a row's replicates: mean, majority, or pass@K."
    )
    against: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Git revision whose output is the baseline."
    )
    gates: tuple[Gate, ...] = Field(default=(), strict=False, max_length=100, description="Conditions on metrics.")

    @model_validator(mode="after")
    def _known_metrics(self) -> Evaluate:
        for gate in self.gates:
            name, _, rest = gate.metric.partition(".")
            if name not in self.graders:
                raise ValueError(f"a gate names {gate.metric[:80]}; the graders are {', '.join(self.graders)}")
            if rest and rest not in further_metrics(self.graders[name]):
                known = ", ".join(f"{name}.{one}" for one in further_metrics(self.graders[name])) or f"{name} alone"
                raise ValueError(f"a gate names {gate.metric[:80]}; this grader has {known}")
            if gate.max_drop is not None and (gate.against or self.against) is None:
                raise ValueError("a gate with `max_drop` needs `against`")
            if not gate.slice.keys() <= set(self.slices):
                raise ValueError(f"a gate's slice names {', '.join(gate.slice)}; add that column to `slices`")
        return self


def further_metrics(grader: Any) -> tuple[str, ...]:
    """Return a grader's further metrics: macro_f1, f1.LABEL, fields of JSON."""
    if isinstance(grader, JsonGrader) and grader.fields and isinstance(grader.expect, dict):
        return tuple(grader.expect)
    if not isinstance(grader, LabelGrader):
        return ()
    macro = ("macro_f1",) if "macro_f1" in grader.metrics else ()
    return (*macro, *(f"f1.{label}" for label in grader.labels)) if "f1" in grader.metrics else macro
