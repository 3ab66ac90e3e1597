"""An evaluation as text: metrics with intervals, comparison and gates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from runner.evaluation.evaluate import Evaluation
from runner.evaluation.gates import GateResult, Verdict, gate_text
from runner.evaluation.metrics import Difference, Metric

_STYLES = {Verdict.PASSES: "green", Verdict.FAILS: "red", Verdict.UNDECIDED: "yellow", Verdict.STALE: "yellow"}


def evaluation_view(found: Evaluation) -> RenderableType:
    """Return a job's metrics, gates, and what else a reader must know."""
    parts: list[RenderableType] = [Text(heading(found), style="bold")]
    if found.metrics:
        parts.append(_metrics(found.metrics))
    if found.gates:
        parts.append(_gates(found.gates))
    parts += [Text(f"  note: {text}", style="yellow") for text in notes(found)]
    return Group(*parts)


def heading(found: Evaluation) -> str:
    """Return the job, and the commit it is compared with."""
    against = "".join(f", against {one.revision} ({one.commit[:12]})" for one in found.baselines)
    return f"{found.job}{against}"


def notes(found: Evaluation) -> Iterator[str]:
    """Yield why numbers are not final, and warnings."""
    if found.stale:
        yield f"stale: {found.stale}"
    for metric in found.metrics:
        if metric.difference is not None and metric.difference.left_out and metric.slice is None:
            left_out = metric.difference.left_out
            yield f"{metric.name}: {left_out:,} rows are not in the baseline and not compared"
    yield from found.warnings


def number(value: float) -> str:
    """Return a value with three decimals, or n/a."""
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def interval(metric: Metric) -> str:
    """Return a 95 % interval, if any."""
    return "" if math.isnan(metric.low) else f"[{metric.low:.3f}, {metric.high:.3f}]"


def metric_name(metric: Metric) -> str:
    """Return a metric's name with its slice, as label [lang=de]."""
    return metric.name if metric.slice is None else f"{metric.name} [{metric.slice[0]}={metric.slice[1]}]"


def no_answer(metric: Metric) -> str:
    """Return how many answers have no score, by reason."""
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in metric.no_answer.items())


def difference(found: Difference | None) -> str:
    """Return a difference with its interval and adjusted p value."""
    if found is None or math.isnan(found.value):
        return ""
    interval = "" if math.isnan(found.low) else f" [{found.low:+.3f}, {found.high:+.3f}]"
    p = "" if math.isnan(found.p) else f", p {found.p:.3f}" if found.p >= 0.001 else ", p < 0.001"
    return f"{found.value:+.3f}{interval}{p}"


def _metrics(metrics: Sequence[Metric]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    compared = any(metric.difference for metric in metrics)
    clustered = any(metric.clusters != metric.rows for metric in metrics)
    lost = any(metric.no_answer for metric in metrics)
    table.add_column("  metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval")
    table.add_column("rows", justify="right")
    for name, wanted in (("clusters", clustered), ("without an answer", lost), ("difference", compared)):
        if wanted:
            table.add_column(name, justify="right" if name == "clusters" else "left")
    for metric in metrics:
        cells = [f"  {metric_name(metric)}", number(metric.value), interval(metric), f"{metric.rows:,}"]
        cells += [f"{metric.clusters:,}"] if clustered else []
        cells += [no_answer(metric)] if lost else []
        cells += [difference(metric.difference)] if compared else []
        table.add_row(*map(Text, cells))
    return table


def _gates(gates: Sequence[GateResult]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for result in gates:
        style = _STYLES[result.verdict]
        verdict = Text(f"  gate {result.verdict}", style=style)
        allowed = "" if result.blocks or result.verdict is Verdict.PASSES else " (allowed)"
        table.add_row(verdict, Text(gate_text(result.gate)), Text(f"{result.reason}{allowed}"))
    return table
