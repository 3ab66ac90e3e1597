"""The report as one HTML page, without script and requests, for light, dark and print."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from runner.money.prices import usd_text
from runner.report.facts import Bin, JobFacts
from runner.report.runs import Run
from runner.views import charts

SHOWN_RUNS = 30
"""Newest runs in charts and table; JSON and CSV have all."""


def page(jobs: Sequence[JobFacts], project: str, made: datetime) -> str:
    """Return the whole page."""
    import jinja2  # noqa: PLC0415

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("runner.views"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(money=_money, number=_number, moment=_moment, span=_span, unquoted=_unquoted)
    shown = [_Shown(job) for job in jobs]
    return environment.get_template("report.html.j2").render(
        project=project, made=f"{made:%Y-%m-%d %H:%M} UTC", jobs=shown, summary=_summary(jobs)
    )


class _Shown:
    def __init__(self, job: JobFacts) -> None:
        self.facts = job
        self.anchor = "job-" + "".join(c if c.isalnum() else "-" for c in job.address)
        self.runs = job.runs[-SHOWN_RUNS:]
        self.older = len(job.runs) - len(self.runs)
        output = job.output
        self.outcome = _svg(
            charts.share(
                [
                    ("answered", output.answered, "a"),
                    ("refused", output.refused, "b"),
                    ("failed", output.failed, "bad"),
                ],
                "outcome of the rows",
            )
            if output and output.rows
            else ""
        )
        self.codes = _svg(
            charts.bars([(code, n, _number(n)) for code, n in output.codes], "errors by code", "bad")
            if output and output.codes
            else ""
        )
        self.characters = _svg(_histogram(output.characters, "rows by answer length") if output else "")
        self.tokens = _svg(_histogram(output.tokens, "rows by answer tokens") if output else "")
        self.used = _svg(_over_runs(self.runs, "tokens of each run", tokens=True))
        self.cost = _svg(_over_runs(self.runs, "cost of each run", tokens=False))


def _histogram(bins: Sequence[Bin], title: str) -> str:
    return charts.columns([(_range(b), b.count, _number(b.count)) for b in bins], title) if len(bins) > 1 else ""


def _range(one: Bin) -> str:
    return f"{one.low:,}" if one.high - one.low == 1 else f"{one.low:,}-{one.high - 1:,}"


def _over_runs(runs: Sequence[Run], title: str, *, tokens: bool) -> str:
    values: list[tuple[str, float, str]] = []
    one_day = len({run.started[:10] for run in runs}) == 1
    for run in runs:
        day = (run.started[11:16] if one_day else run.started[5:10]) or "?"
        if tokens:
            count = run.tokens[0] + run.tokens[1]
            values.append((day, count, _short(count)))
        else:
            values.append((day, float(run.cost or 0), _money(run.cost)))
    return charts.columns(values, title, "b") if any(value for _, value, _ in values) and len(values) > 1 else ""


def _summary(jobs: Sequence[JobFacts]) -> dict[str, Any]:
    outputs = [job.output for job in jobs if job.output]
    runs = [run for job in jobs for run in job.runs]
    costs = [run.cost for run in runs if run.cost is not None]
    return {
        "rows": sum(output.rows for output in outputs),
        "answered": sum(output.answered for output in outputs),
        "failed": sum(output.failed for output in outputs),
        "tokens": sum(run.tokens[0] + run.tokens[1] for run in runs),
        "cost": sum(costs, Decimal(0)) if costs or not runs else None,
    }


def _svg(text: str) -> Any:
    from markupsafe import Markup  # noqa: PLC0415

    return Markup(text)  # noqa: S704  charts escape what they are given


def _unquoted(identity: str) -> str:
    return identity[1:-1] if identity[:1] == identity[-1:] == '"' else identity


def _money(amount: Decimal | None) -> str:
    return "not known" if amount is None else usd_text(amount)


def _number(value: int) -> str:
    return f"{value:,}"


def _short(value: float) -> str:
    for unit in ("", "k", "M"):
        if value < 1000:
            return f"{value:.0f}{unit}" if value >= 10 or not unit else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}G"


def _moment(text: str) -> str:
    return text[:16].replace("T", " ") if text else "not known"


def _span(duration: timedelta | None) -> str:
    if duration is None:
        return ""
    seconds = duration.total_seconds()
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
