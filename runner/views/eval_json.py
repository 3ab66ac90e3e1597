"""An evaluation as JSON, one object a metric: the published schema of `eval --format json` (`schemas/`)."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runner.evaluation.evaluate import Evaluation
from runner.evaluation.gates import gate_text
from runner.evaluation.metrics import Metric

FORMAT = "1.0"


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DifferenceField(_Json):
    """A metric minus the baseline's, over the rows that both have. `p` is adjusted by Holm's method."""

    against: str
    commit: str
    rows: int
    not_compared: int
    value: float | None
    low: float | None
    high: float | None
    se: float | None
    p: float | None


class MetricLine(_Json):
    """One metric. Numbers have six decimals; null means that one can't be known."""

    type: str = "metric"
    job: str
    metric: str
    slice: dict[str, str] | None = Field(description="The column and value that select the rows; null for all rows.")
    value: float | None
    low: float | None = Field(description="Lower end of the 95 % interval.")
    high: float | None
    se: float | None
    rows: int
    clusters: int
    sum: float | None
    no_answer: dict[str, int] = Field(description="Answers without a score: failed, refused, cut_off, no_answer.")
    difference: DifferenceField | None
    grader: str = Field(description="Digest of the graders.")
    output: str = Field(description="SHA-256 of the output.")


class GateLine(_Json):
    """One gate: `passes`, `fails`, `undecided` or `stale`. `blocks` is whether the exit code is 5 for it."""

    type: str = "gate"
    job: str
    gate: str
    verdict: str
    reason: str
    blocks: bool


class EvaluationDocument(_Json):
    """The whole document."""

    format: str = FORMAT
    metrics: tuple[MetricLine, ...]
    gates: tuple[GateLine, ...]
    stale: dict[str, str] = Field(description="Why a job's output is not final, by job.")
    warnings: dict[str, tuple[str, ...]]
    errors: dict[str, str] = Field(description="Jobs that could not be evaluated.")


def eval_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **EvaluationDocument.model_json_schema(mode="serialization"),
        "title": f"`batchspec eval --format json`, format {FORMAT}",
    }


def evaluation_document(found: tuple[Evaluation, ...], errors: dict[str, str]) -> str:
    """Return the document as JSON text."""
    made = EvaluationDocument(
        metrics=tuple(_metric(metric, one) for one in found for metric in one.metrics),
        gates=tuple(
            GateLine(
                job=result.job,
                gate=gate_text(result.gate),
                verdict=result.verdict,
                reason=result.reason,
                blocks=result.blocks,
            )
            for one in found
            for result in one.gates
        ),
        stale={one.job: one.stale for one in found if one.stale},
        warnings={one.job: one.warnings for one in found if one.warnings},
        errors=errors,
    )
    return made.model_dump_json(indent=2) + "\n"


def _metric(metric: Metric, found: Evaluation) -> MetricLine:
    change = metric.difference
    commits = {one.revision: one.commit for one in found.baselines}
    return MetricLine(
        job=metric.job,
        metric=metric.name,
        slice=None if metric.slice is None else dict([metric.slice]),
        value=_known(metric.value),
        low=_known(metric.low),
        high=_known(metric.high),
        se=_known(metric.se),
        rows=metric.rows,
        clusters=metric.clusters,
        sum=_known(metric.sum),
        no_answer=metric.no_answer,
        difference=None
        if change is None
        else DifferenceField(
            against=change.against,
            commit=commits[change.against],
            rows=change.rows,
            not_compared=change.left_out,
            value=_known(change.value),
            low=_known(change.low),
            high=_known(change.high),
            se=_known(change.se),
            p=_known(change.p),
        ),
        grader=found.grader_digest,
        output=found.output_digest,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
