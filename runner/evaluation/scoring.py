"""Grades an output: joins input rows to answers by id and gives each grader's scores as arrays.

Every input row counts. One whose request failed, or that has nothing to grade, scores 0.
"""

from __future__ import annotations

import math
import sqlite3
from array import array
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
from runner.evaluation.graders.compiled import Grading, compile_grader
from runner.evaluation.graders.python_client import PythonGrading
from runner.evaluation.statistics.agreement import pass_at_k
from runner.evaluation.statistics.intervals import Floats, Ints, merged_clusters
from runner.jobspec.evaluate_options import Evaluate, LabelGrader, PythonGrader
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
_GRADED = Outcome.GRADED
_EXACT = (0.0, 1.0)
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
    """Return a job's grading functions, except `python` ones. Raises SpecError for invalid Jinja."""
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
    """Grade an output. Raises GradingError, StoreError and SpecError.

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
        if row is None:
            return None
        found = row.get("id")
        if (found if type(found) is str else id_text(found)) != row_id or _replicate(row) != replicate:
            return None
        self._next = next(self._rows, None)
        return read_answer(row)


def _replicate(row: Mapping[str, Any]) -> int:
    value = row.get("replicate")
    return 0 if value is None or value == "" else int(value)


class _Slices:
    def __init__(self, columns: Iterable[str]) -> None:
        self._rows: dict[str, dict[str, array[int]]] = {column: {} for column in columns}

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        for column, values in self._rows.items():
            if column not in row:
                raise GradingError(
                    f"evaluate.slices: the row has no column {column}",
                    hint=f"its columns are: {', '.join(list(row)[:20])}",
                )
            value = id_text(row[column])
            if value in values or len(values) < MAX_SLICE_VALUES:
                values.setdefault(value, array("q")).append(number)

    def arrays(self) -> dict[str, dict[str, Ints]]:
        return {
            column: {value: np.frombuffer(rows, np.int64) for value, rows in sorted(values.items())}
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
    results = {
        name: _Results(grading, rows, replicates, has_labels=isinstance(evaluate.graders[name], LabelGrader))
        for name, grading in gradings.items()
    }
    graders = [one.add for one in results.values()]
    present = np.zeros(rows, bool)
    slices, labels = _Slices(evaluate.slices), _Numbers()
    unsettled = 0
    for number, (encoded, row) in enumerate(zip(desired.spool.ids(), input_rows(desired), strict=True)):
        row_id = _decoded_id(encoded)
        if evaluate.slices:
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
            try:
                for add in graders:
                    add(answer, row)
            except GradingError as error:
                message = f"row {row_id[:80]}: {error.message}"
                raise GradingError(message, hint=error.hint, code=error.code) from error
    keys = np.concatenate([block.records["digest"] for block in desired.spool.blocks()]) if rows else np.array([])
    _, same_request = np.unique(keys, return_inverse=True)
    by_column = (np.frombuffer(labels.numbers, np.int64),) if evaluate.cluster is not None else ()
    return ScoreTable(
        rows,
        replicates,
        present if is_baseline else np.ones(rows, bool),
        merged_clusters(same_request.astype(np.int64), *by_column) if rows else np.zeros(0, np.int64),
        evaluate.cluster or "",
        slices.arrays(),
        {name: one.finished(evaluate) for name, one in results.items()},
        unsettled,
    )


def _decoded_id(encoded: bytes) -> str:
    if encoded[:1] == b'"' and b"\\" not in encoded:
        return encoded[1:-1].decode()
    return id_text(orjson.loads(encoded))


def _cluster_value(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise GradingError(
            f"evaluate.cluster: the row has no column {column}", hint=f"its columns are: {', '.join(list(row)[:20])}"
        )
    return id_text(row[column])


class _Numbers:
    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self.numbers = array("q")

    def add(self, value: str) -> None:
        self.numbers.append(self._known.setdefault(value, len(self._known)))


class _Results:
    """The results of one grader, which grow with each answer: typed arrays, as NumPy sets single items slowly."""

    def __init__(self, grading: Grading, rows: int, replicates: int, *, has_labels: bool) -> None:
        self._grading = grading
        self._shape = rows, replicates
        self._has_labels = has_labels
        self._scores, self._outcomes = array("d"), array("b")
        self._expected, self._found = array("h"), array("h")
        self._fields: dict[str, Floats] = {}

    def add(self, answer: Answer, row: Mapping[str, Any]) -> None:
        """Grade the next answer. One without anything to grade scores 0, but its expectation counts for labels."""
        if answer.outcome is _GRADED:
            score, outcome, expected, found, fields = self._grading(answer, row)
        else:
            nothing = self._grading(Answer(None, None, None, None, answer.outcome), row)
            score, outcome, expected, found = 0.0, answer.outcome, nothing.expected, -1
            fields = dict.fromkeys(nothing.fields, 0.0)
        self._scores.append(score if score in _EXACT else round(score, 6))
        self._outcomes.append(outcome)
        if self._has_labels:
            self._expected.append(expected)
            self._found.append(found)
        if fields:
            at = divmod(len(self._scores) - 1, self._shape[1])
            for name, field_score in fields.items():
                if name not in self._fields:
                    self._fields[name] = np.zeros(self._shape)
                self._fields[name][at] = field_score

    def finished(self, evaluate: Evaluate) -> GraderScores:
        scores = np.frombuffer(self._scores, np.float64).reshape(self._shape)
        if not self._has_labels:
            self._expected = self._found = array("h", [-1]) * scores.size
        return GraderScores(
            scores,
            across_replicates(scores, evaluate.across),
            np.frombuffer(self._outcomes, np.int8).reshape(self._shape),
            np.frombuffer(self._expected, np.int16).reshape(self._shape),
            np.frombuffer(self._found, np.int16).reshape(self._shape),
            {name: across_replicates(field, "mean") for name, field in sorted(self._fields.items())},
        )
