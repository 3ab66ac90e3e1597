"""A report's numbers for programs: JSON with everything, CSV with a line a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import orjson

from runner.money.prices import usd
from runner.report.facts import JobFacts, OutputFacts, Shown
from runner.report.runs import Run

COLUMNS = (
    "job", "realm", "started", "ended", "model", "outcome", "batches", "requests", "completed", "failed", "invalid",
    "input_tokens", "output_tokens", "cached_tokens", "cost_usd", "expected_usd", "why",
)  # fmt: skip


def as_csv(jobs: Sequence[JobFacts]) -> str:
    """Return one line a run, oldest first, with a header."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for job in jobs:
        for run in job.runs:
            fields = {"job": job.address, "realm": job.realm, **_run(run)}
            fields["batches"] = len(run.batches)
            writer.writerow("" if fields[name] is None else _safe(fields[name]) for name in COLUMNS)
    return file.getvalue()


def as_json(jobs: Sequence[JobFacts]) -> bytes:
    """Return all jobs, with a line end."""
    value = {"version": 1, "jobs": [_job(job) for job in jobs]}
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _job(job: JobFacts) -> dict[str, Any]:
    return {
        "job": job.address,
        "realm": job.realm,
        "output": {"path": job.output_path, **(_output(job.output) if job.output else {"missing": job.missing})},
        "pins": job.pins.model_dump(mode="json") if job.pins else None,
        "runs": [_run(run) for run in job.runs],
    }


def _run(run: Run) -> dict[str, Any]:
    given, taken, cached = run.tokens
    cost = run.cost
    return {
        "started": run.started or None,
        "ended": run.ended or None,
        "model": run.model,
        "outcome": run.outcome,
        "batches": [batch.batch for batch in run.batches],
        "requests": run.requests,
        "completed": run.completed,
        "failed": run.failed,
        "invalid": run.invalid,
        "input_tokens": given,
        "output_tokens": taken,
        "cached_tokens": cached,
        "cost_usd": None if cost is None else float(usd(cost)),
        "expected_usd": None if run.expected is None else float(usd(run.expected)),
        "why": run.why,
    }


def _output(facts: OutputFacts) -> dict[str, Any]:
    return {
        "rows": facts.rows,
        "answered": facts.answered,
        "refused": facts.refused,
        "failed": facts.failed,
        "errors": dict(facts.codes),
        "cut": facts.cut,
        "finish_reasons": dict(facts.finishes),
        "input_tokens": facts.input_tokens,
        "output_tokens": facts.output_tokens,
        "characters": [{"from": b.low, "below": b.high, "rows": b.count} for b in facts.characters],
        "answer_tokens": [{"from": b.low, "below": b.high, "rows": b.count} for b in facts.tokens],
        "samples": [_shown(row) for row in facts.samples],
        "failures": [_shown(row) for row in facts.failures],
        "longest": [_shown(row) for row in facts.longest],
    }


def _shown(row: Shown) -> dict[str, Any]:
    return {"id": row.id, "prompt": row.prompt, "text": row.text, "output_tokens": row.tokens, "error": row.error}


def _safe(value: Any) -> Any:
    """Return a value; one that spreadsheets would run as a formula gets a leading quote."""
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
