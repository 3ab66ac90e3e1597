"""Grades an output: joins input rows to answers by id and gives each grader's scores as arrays.

Every input row counts. One whose request failed, or that has nothing to grade, scores 0.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from runner.errors import Problem, SpecError
from runner.evaluation.answers import MISSING, Answer, Outcome, read_answer
from runner.evaluation.expectations import GradingError
from runner.evaluation.graders.compiled import Grade, Grading, compile_grader
from runner.evaluation.graders.python_client import PythonGrading
from runner.evaluation.statistics.agreement import pass_at_k
from runner.evaluation.statistics.intervals import Floats, Ints, merged_clusters
from runner.jobspec.evaluate_options import Evaluate, PythonGrader
from runner.jobspec.loader import JobSpec
from runner.jobspec.output_options import Output
from runner.outputs.reader import output_rows
from runner.planner.render import Desired, input_rows
from runner.planner.templates.check import problem_of_template
from runner.planner.templates.environment import Templates

MAX_SLICE_VALUES = 50
"""Different values of a slice column that are shown; rows with further ones count in the total only."""
MAX_WORST = 20
"""Rows with low scores that are kept for display."""
AnswersOf = Callable[[str, int], Answer | None]
"""Returns the answer of a row id and a replicate; None if the output has no such row."""


class OutputMismatch(GradingError):
    """The output lacks rows of the input."""


@dataclass(frozen=True, slots=True)
class GraderScores:
    """One grader's results. `scores` and `outcomes` are [rows, replicates], `row_scores` one number a row.

    `expected` and `found` are positions in the labels. `fields` are row scores by JSON key.
    """

    scores: Floats
    row_scores: Floats
    outcomes: npt.NDArray[np.int8]
    expected: npt.NDArray[np.int16]
    found: npt.NDArray[np.int16]
    fields: Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """All scores of one output. `present`: rows that it has. `slices`: row numbers by column and value."""

    rows: int
    replicates: int
    present: npt.NDArray[np.bool_]
    clusters: Ints
    clustered_by: str
    slices: Mapping[str, Mapping[str, Ints]]
    graders: Mapping[str, GraderScores]
    unsettled: int


def compiled_graders(spec: JobSpec, root: Path) -> dict[str, Grading]:
    """Return the grading functions of a job without `python` graders. Raises SpecError if Jinja does not compile."""
    import jinja2  # noqa: PLC0415  only jobs with graders need it

    assert spec.job.evaluate is not None
    templates = Templates(root, spec.job.vars)
    made: dict[str, Grading] = {}
    problems: list[Problem] = []
    for name, model in spec.job.evaluate.graders.items():
        if isinstance(model, PythonGrader):
            continue
        try:
            made[name] = compile_grader(name, model, templates)
        except jinja2.TemplateError as error:
            place = spec.problem("", "evaluate", "graders", name)
            problems.append(problem_of_template(templates, error, place))
    if problems:
        raise SpecError(problems)
    return made


def grader_problems(root: Path, specs: Iterable[JobSpec]) -> list[Problem]:
    """Return what is wrong with graders' Jinja."""
    found: dict[Problem, None] = {}
    for spec in specs:
        if spec.job.evaluate is not None:
            try:
                compiled_graders(spec, root)
            except SpecError as error:
                found |= dict.fromkeys(error.problems)
    return list(found)


def score_output(desired: Desired, path: Path, output: Output, *, trusted: bool = False) -> ScoreTable:
    """Grade an output of a job against its input. Raises GradingError, StoreError and SpecError.

    `python` graders run only if `trusted`; else the table does not have them.
    """
    answers = _InOrder(output_rows(path, output))
    return _score(desired, answers.of, is_partial=output.errors is not None, trusted=trusted)


def score_baseline(desired: Desired, path: Path, output: Output, scratch: Path, *, trusted: bool = False) -> ScoreTable:
    """Grade another version of the output with today's graders and expectations, by row id."""
    with closing(sqlite3.connect(scratch)) as index:
        index.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16000;")
        index.execute("CREATE TABLE row (id TEXT, replicate INTEGER, line BLOB, PRIMARY KEY (id, replicate))")
        rows = (row for row in output_rows(path, output) if row is not None and "id" in row)
        index.executemany(
            "INSERT OR REPLACE INTO row VALUES (?, ?, ?)",
            ((id_text(row["id"]), _replicate(row), orjson.dumps(dict(row))) for row in rows),
        )

        def answer(row_id: str, replicate: int) -> Answer | None:
            found = index.execute("SELECT line FROM row WHERE id = ? AND replicate = ?", (row_id, replicate)).fetchone()
            return None if found is None else read_answer(orjson.loads(found[0]))

        return _score(desired, answer, is_partial=True, is_baseline=True, trusted=trusted)


def id_text(value: Any) -> str:
    """Return a row id as text, the same for every output format."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def across_replicates(scores: Floats, across: str) -> Floats:
    """Return one score a row: the replicates' mean, 1 for a majority of right ones, or pass@K."""
    tried = scores.shape[1]
    if across == "majority":
        return np.array([float(2 * count > tried) for count in np.sum(scores >= 1, axis=1).tolist()])
    if across.startswith("pass@"):
        k = int(across.removeprefix("pass@"))
        by_count = [round(pass_at_k(tried, right, k), 6) for right in range(tried + 1)]
        return np.array([by_count[count] for count in np.sum(scores >= 1, axis=1).tolist()])
    if tried == 1:
        return scores[:, 0].copy()
    return np.asarray(np.round(np.array([math.fsum(row) for row in scores]) / tried, 6), np.float64)


class _InOrder:
    """Answers in the input's order. Rows may be missing."""

    def __init__(self, rows: Iterable[Mapping[str, Any] | None]) -> None:
        self._rows: Iterator[Mapping[str, Any] | None] = iter(rows)
        self._next: Mapping[str, Any] | None = next(self._rows, None)

    def of(self, row_id: str, replicate: int) -> Answer | None:
        row = self._next
        if row is None or id_text(row.get("id")) != row_id or _replicate(row) != replicate:
            return None
        self._next = next(self._rows, None)
        return read_answer(row)


def _replicate(row: Mapping[str, Any]) -> int:
    value = row.get("replicate")
    return int(value) if value not in {None, ""} else 0


class _Slices:
    """Row numbers by slice columns' values."""

    def __init__(self, columns: Iterable[str]) -> None:
        self._rows: dict[str, dict[str, list[int]]] = {column: {} for column in columns}

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        for column, values in self._rows.items():
            if column not in row:
                raise GradingError(
                    f"evaluate.slices: the row has no column {column}",
                    hint=f"its columns are: {', '.join(list(row)[:20])}",
                )
            value = id_text(row[column])
            if value in values or len(values) < MAX_SLICE_VALUES:
                values.setdefault(value, []).append(number)

    def arrays(self) -> dict[str, dict[str, Ints]]:
        return {
            column: {value: np.array(rows, np.int64) for value, rows in sorted(values.items())}
            for column, values in self._rows.items()
        }


def _score(
    desired: Desired, answer_of: AnswersOf, *, is_partial: bool, trusted: bool, is_baseline: bool = False
) -> ScoreTable:
    with ExitStack() as stack:
        gradings = compiled_graders(desired.spec, desired.root)
        assert desired.spec.job.evaluate is not None
        for name, model in desired.spec.job.evaluate.graders.items():
            if trusted and isinstance(model, PythonGrader):
                gradings[name] = stack.enter_context(PythonGrading(name, model, desired.root)).grade
        return _table(desired, answer_of, gradings, is_partial=is_partial, is_baseline=is_baseline)


def _table(
    desired: Desired, answer_of: AnswersOf, gradings: Mapping[str, Grading], *, is_partial: bool, is_baseline: bool
) -> ScoreTable:
    spec, rows, replicates = desired.spec, desired.spool.rows, desired.spool.replicates
    evaluate = spec.job.evaluate
    assert evaluate is not None
    arrays = {name: _Arrays(rows, replicates) for name in gradings}
    present = np.zeros(rows, bool)
    slices, labels = _Slices(evaluate.slices), _Numbers()
    unsettled = 0
    for number, (encoded, row) in enumerate(zip(desired.spool.ids(), input_rows(desired), strict=True)):
        row_id = id_text(orjson.loads(encoded))
        slices.add(number, row)
        if evaluate.cluster is not None:
            labels.add(_cluster_value(row, evaluate.cluster))
        for replicate in range(replicates):
            answer = answer_of(row_id, replicate)
            if answer is None:
                if not is_partial:
                    raise OutputMismatch(
                        f"{spec.job.output.path} has no row {row_id[:80]} in the place where the input has it",
                        hint="`batchspec apply` writes the output of today's input",
                    )
                answer = MISSING
            else:
                present[number] = True
            unsettled += not answer.settled
            for name, grading in gradings.items():
                arrays[name].set(number, replicate, _graded(grading, answer, row, row_id))
    keys = np.concatenate([block.records["digest"] for block in desired.spool.blocks()]) if rows else np.array([])
    _, same_request = np.unique(keys, return_inverse=True)
    by_column = (np.array(labels.numbers, np.int64),) if evaluate.cluster is not None else ()
    return ScoreTable(
        rows,
        replicates,
        present if is_baseline else np.ones(rows, bool),
        merged_clusters(same_request.astype(np.int64), *by_column) if rows else np.zeros(0, np.int64),
        evaluate.cluster or "",
        slices.arrays(),
        {name: made.finished(evaluate) for name, made in arrays.items()},
        unsettled,
    )


def _graded(grading: Grading, answer: Answer, row: Mapping[str, Any], row_id: str) -> Grade:
    """Grade one answer. Without a gradable answer, the expectation still counts for labels."""
    try:
        if answer.outcome is Outcome.GRADED:
            return grading(answer, row)
        nothing = grading(Answer(None, None, None, None, answer.outcome), row)
        return Grade(0.0, answer.outcome, nothing.expected, -1, dict.fromkeys(nothing.fields, 0.0))
    except GradingError as error:
        raise GradingError(f"row {row_id[:80]}: {error.message}", hint=error.hint, code=error.code) from error


def _cluster_value(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise GradingError(
            f"evaluate.cluster: the row has no column {column}", hint=f"its columns are: {', '.join(list(row)[:20])}"
        )
    return id_text(row[column])


class _Numbers:
    """Numbers values by first occurrence."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.numbers: list[int] = []

    def add(self, value: str) -> None:
        self.numbers.append(self._known.setdefault(value, len(self._known)))


class _Arrays:
    """One grader's results during grading."""

    def __init__(self, rows: int, replicates: int) -> None:
        self._scores = np.zeros((rows, replicates))
        self._outcomes = np.zeros((rows, replicates), np.int8)
        self._expected = np.full((rows, replicates), -1, np.int16)
        self._found = np.full((rows, replicates), -1, np.int16)
        self._fields: dict[str, Floats] = {}

    def set(self, row: int, replicate: int, grade: Grade) -> None:
        at = row, replicate
        self._scores[at] = round(grade.score, 6)
        self._outcomes[at] = grade.outcome
        self._expected[at], self._found[at] = grade.expected, grade.found
        for name, score in grade.fields.items():
            if name not in self._fields:
                self._fields[name] = np.zeros(self._scores.shape)
            self._fields[name][at] = score

    def finished(self, evaluate: Evaluate) -> GraderScores:
        return GraderScores(
            self._scores,
            across_replicates(self._scores, evaluate.across),
            self._outcomes,
            self._expected,
            self._found,
            {name: across_replicates(scores, "mean") for name, scores in sorted(self._fields.items())},
        )
