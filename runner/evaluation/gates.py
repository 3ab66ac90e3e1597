"""Gates: conditions on metrics."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.evaluation.metrics import Metric
from runner.evaluation.scoring import id_text
from runner.jobspec.evaluate_options import Evaluate, Gate


class Verdict(StrEnum):
    """A gate's result. STALE: requests are unanswered, so no gate passes."""

    PASSES = "passes"
    FAILS = "fails"
    UNDECIDED = "undecided"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class GateResult:
    """A gate's verdict and its reason. `blocks`: `eval` exits with 5."""

    job: str
    gate: Gate
    verdict: Verdict
    reason: str
    blocks: bool


def check_gates(
    job: str,
    evaluate: Evaluate,
    metrics: Mapping[str, Sequence[Metric]],
    *,
    stale: str = "",
    default: str = "",
    not_graded: Collection[str] = (),
) -> tuple[GateResult, ...]:
    """Return the results of a job's gates. `metrics` are by the revision they were compared with, "" for none.

    `stale`: why no gate can pass. `default`: the revision of gates that name none. A gate on a grader in `not_graded`
    fails.
    """
    results = []
    for gate in evaluate.gates:
        against = gate.against or default
        known = metrics.get(against, ())
        if stale:
            verdict, reason = Verdict.STALE, stale
        elif gate.metric.partition(".")[0] in not_graded:
            verdict, reason = Verdict.FAILS, "not graded"
        else:
            verdict, reason = _check(gate, _metric_of(gate, known), against)
        blocks = verdict in {Verdict.FAILS, Verdict.STALE} or (
            verdict is Verdict.UNDECIDED and gate.undecided == "fail"
        )
        results.append(GateResult(job, gate, verdict, reason, blocks))
    return tuple(results)


def gate_text(gate: Gate) -> str:
    """Return a gate's condition, as `label >= 0.8`."""
    where = f" [{', '.join(f'{name}={value}' for name, value in gate.slice.items())}]" if gate.slice else ""
    if gate.max_drop is not None:
        return f"{gate.metric}{where} drops at most {gate.max_drop:g}"
    sign, limit = (">=", gate.at_least) if gate.at_least is not None else ("<=", gate.at_most)
    return f"{gate.metric}{where} {sign} {limit:g}{' with confidence' if gate.confident else ''}"


def _metric_of(gate: Gate, metrics: Sequence[Metric]) -> Metric | None:
    wanted = {(name, id_text(value)) for name, value in gate.slice.items()}
    return next(
        (
            metric
            for metric in metrics
            if metric.name == gate.metric and ({metric.slice} if metric.slice else set()) == wanted
        ),
        None,
    )


def _check(gate: Gate, metric: Metric | None, against: str) -> tuple[Verdict, str]:
    if metric is None or math.isnan(metric.value):
        return Verdict.FAILS, "no rows to compute it from"
    if gate.max_drop is not None:
        return _check_drop(gate.max_drop, metric, against)
    value, low, high = metric.value, metric.low, metric.high
    shown = f"{value:.3f} [{low:.3f}, {high:.3f}]"
    if not gate.confident:
        holds = value >= gate.at_least if gate.at_least is not None else value <= (gate.at_most or 0.0)
        return (Verdict.PASSES if holds else Verdict.FAILS), shown
    if math.isnan(low):
        return Verdict.UNDECIDED, f"{value:.3f}, without an interval"
    if gate.at_least is not None:
        return _between(low >= gate.at_least, high < gate.at_least), shown
    limit = gate.at_most or 0.0
    return _between(high <= limit, low > limit), shown


def _check_drop(max_drop: float, metric: Metric, against: str) -> tuple[Verdict, str]:
    change = metric.difference
    if change is None or not change.rows:
        return Verdict.UNDECIDED, f"nothing to compare with at {against}"
    if math.isnan(change.low):
        return Verdict.UNDECIDED, f"{change.value:+.3f}, without an interval"
    shown = f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}] on {change.rows} rows"
    return _between(change.low > -max_drop, change.high < -max_drop), shown


def _between(passes: bool, fails: bool) -> Verdict:
    return Verdict.PASSES if passes else Verdict.FAILS if fails else Verdict.UNDECIDED
