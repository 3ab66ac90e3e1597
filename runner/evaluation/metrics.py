"""Metrics from scores: values, 95 % intervals, slices, and paired differences."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runner.evaluation.answers import OUTCOME_NAMES
from runner.evaluation.scoring import GraderScores, ScoreTable
from runner.evaluation.statistics.agreement import cluster_confusions, confusion, f1_scores, macro_f1, macro_f1_draws
from runner.evaluation.statistics.intervals import (
    Floats,
    Interval,
    Ints,
    is_binary,
    mean_interval,
    paired_difference,
    proportion_interval,
)
from runner.evaluation.statistics.significance import holm, sign_flip_p
from runner.jobspec.evaluate_options import Evaluate, JsonGrader, LabelGrader

DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric minus the baseline's, over the `rows` of both. `p` is adjusted for all metrics shown."""

    against: str
    rows: int
    left_out: int
    value: float
    low: float
    high: float
    se: float
    p: float


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric over all rows or a slice's. `sum` adds the rows' scores.

    `no_answer` counts answers without a score, by reason. NaN: a number can't be known.
    """

    job: str
    name: str
    slice: tuple[str, str] | None
    value: float
    low: float
    high: float
    se: float
    rows: int
    clusters: int
    sum: float
    no_answer: dict[str, int]
    difference: Difference | None = None


def metrics_of(
    job: str, table: ScoreTable, evaluate: Evaluate, seed: str, baseline: ScoreTable | None = None, against: str = ""
) -> tuple[Metric, ...]:
    """Return all metrics: each grader's in the order of the spec, over all rows first and then by slice.

    `seed` identifies output and grader, for the bootstrap of macro F1.
    """
    found = [
        metric
        for name, grader in evaluate.graders.items()
        if name in table.graders
        for selected, rows in _selections(table)
        for metric in _of_grader(job, name, grader, table, selected, rows, seed, baseline, against)
    ]
    adjusted = iter(holm([metric.difference.p for metric in found if metric.difference is not None]))
    return tuple(
        metric
        if metric.difference is None
        else replace(metric, difference=replace(metric.difference, p=_rounded(next(adjusted))))
        for metric in found
    )


def _selections(table: ScoreTable) -> Iterator[tuple[tuple[str, str] | None, Ints]]:
    yield None, np.arange(table.rows)
    for column, values in table.slices.items():
        for value, rows in values.items():
            yield (column, value), rows


def _of_grader(
    job: str,
    name: str,
    grader: Any,
    table: ScoreTable,
    selected: tuple[str, str] | None,
    rows: Ints,
    seed: str,
    baseline: ScoreTable | None,
    against: str,
) -> Iterator[Metric]:
    scores = table.graders[name]
    clusters = _renumbered(table.clusters[rows])
    counts = {
        OUTCOME_NAMES[outcome]: int(np.sum(scores.outcomes[rows] == outcome))
        for outcome in OUTCOME_NAMES
        if np.any(scores.outcomes[rows] == outcome)
    }

    def mean_metric(metric: str, values: Floats, old: Floats | None) -> Metric:
        interval = score_interval(values[rows], clusters)
        difference = None
        if baseline is not None and old is not None:
            both = rows[baseline.present[rows]]
            difference = _difference(values[both], old[both], _renumbered(table.clusters[both]), against, len(rows))
        return _metric(job, metric, selected, interval, values[rows], clusters, counts, difference)

    before = None if baseline is None else baseline.graders[name]
    yield mean_metric(name, scores.row_scores, None if before is None else before.row_scores)
    if isinstance(grader, JsonGrader) and grader.fields:
        for field, values in scores.fields.items():
            old = None if before is None else before.fields.get(field, np.zeros(table.rows))
            yield mean_metric(f"{name}.{field}", values, old)
    if isinstance(grader, LabelGrader):
        yield from _label_metrics(job, name, grader, scores, selected, rows, clusters, counts, seed)


def _label_metrics(
    job: str,
    name: str,
    grader: LabelGrader,
    scores: GraderScores,
    selected: tuple[str, str] | None,
    rows: Ints,
    clusters: Ints,
    counts: dict[str, int],
    seed: str,
) -> Iterator[Metric]:
    if not {"macro_f1", "f1"} & set(grader.metrics):
        return
    table = confusion_of(scores, rows, len(grader.labels))
    groups = int(clusters.max(initial=-1)) + 1

    def metric(what: str, value: float, interval: tuple[float, float] = (math.nan, math.nan)) -> Metric:
        low, high = interval
        found = Interval(value, low, high, math.nan)
        return _metric(job, f"{name}.{what}", selected, found, np.array([value]), clusters, counts, None, len(rows))

    if "macro_f1" in grader.metrics and len(rows):
        tables: Any = table
        if groups < len(rows):
            each = np.repeat(clusters, scores.found.shape[1])
            tables = cluster_confusions(*_labels(scores, rows), len(grader.labels), each)
        digest = hashlib.sha256(f"{seed} {name} {selected}".encode()).digest()
        yield metric("macro_f1", macro_f1(table), macro_f1_draws(tables, digest))
    for label, value in zip(grader.labels, f1_scores(table), strict=True):
        if "f1" in grader.metrics:
            yield metric(f"f1.{label}", value)


def confusion_of(scores: GraderScores, rows: Ints, labels: int) -> Ints:
    """Return confusion counts [expected, found] of all replicates of some rows."""
    return confusion(*_labels(scores, rows), labels)


def _labels(scores: GraderScores, rows: Ints) -> tuple[Ints, Ints]:
    return scores.expected[rows].astype(np.int64).ravel(), scores.found[rows].astype(np.int64).ravel()


def score_interval(values: Floats, clusters: Ints) -> Interval:
    """Return the mean of scores and its interval: Wilson's for 0 and 1, else Student's."""
    return proportion_interval(values, clusters) if is_binary(values) else mean_interval(values, clusters)


def _difference(new: Floats, old: Floats, clusters: Ints, against: str, rows: int) -> Difference:
    interval = paired_difference(new, old, clusters)
    p = sign_flip_p(new, old, clusters) if len(new) else math.nan
    return Difference(
        against,
        len(new),
        rows - len(new),
        _rounded(interval.value),
        _rounded(interval.low),
        _rounded(interval.high),
        _rounded(interval.se),
        p,
    )


def _metric(
    job: str,
    name: str,
    selected: tuple[str, str] | None,
    interval: Interval,
    values: Floats,
    clusters: Ints,
    counts: dict[str, int],
    difference: Difference | None,
    rows: int | None = None,
) -> Metric:
    return Metric(
        job,
        name,
        selected,
        _rounded(interval.value),
        _rounded(interval.low),
        _rounded(interval.high),
        _rounded(interval.se),
        len(values) if rows is None else rows,
        int(clusters.max(initial=-1)) + 1,
        _rounded(math.fsum(values.tolist())),
        counts,
        difference,
    )


def _renumbered(clusters: Ints) -> Ints:
    return np.unique(clusters, return_inverse=True)[1].astype(np.int64)


def _rounded(value: float) -> float:
    return value if math.isnan(value) else round(value, DECIMALS) + 0.0
