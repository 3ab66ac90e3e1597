"""What the dashboard shows of a job beyond its record."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from runner.service.db.batches import Batch
from runner.service.http.responses import has_results
from runner.service.jobs.journal import ERRORS
from runner.service.jobs.lines import LineError, error_in

_STEPS = ("created", "queued", "in_progress", "finalizing", "cancelling", "completed", "failed", "cancelled", "expired")
_TAIL = 1 << 16
_LABELS = ("job", "name", "project")
"""Metadata names that can label a job, in order of preference."""


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A failed request."""

    custom_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as shown. `duration` is in seconds."""

    batch: Batch
    label: str
    duration: float
    has_results: bool
    last_error: FailedRequest | LineError | None
    history: tuple[tuple[float, str], ...]


def job_summary(batch: Batch, folder: Path, now: float) -> JobSummary:
    """Summarise a job with result files in `folder`."""
    reasons = reasons_of(batch)
    errors: list[FailedRequest | LineError] = [*reasons]
    if batch.failed and not reasons:
        errors += last_failures(folder / ERRORS, 1)
    moments = [(at, step) for step in _STEPS if (at := getattr(batch, f"{step}_at")) is not None]
    return JobSummary(
        batch=batch,
        label=_label(batch),
        duration=max((batch.ended_at or now) - batch.created_at, 0.0),
        has_results=has_results(batch),
        last_error=next(iter(errors), None),
        history=tuple(sorted(moments, key=lambda moment: moment[0])),
    )


def reasons_of(batch: Batch) -> list[LineError]:
    """Return why a job failed."""
    return [LineError(**reason) for reason in orjson.loads(batch.errors)] if batch.errors else []


def metadata_of(batch: Batch) -> dict[str, str]:
    """Return the create's metadata."""
    metadata: dict[str, str] = orjson.loads(batch.metadata) if batch.metadata else {}
    return metadata


def last_failures(path: Path, count: int) -> list[FailedRequest]:
    """Return the last failed requests in a file's final 64 kB, newest first."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _TAIL, 0))
            pieces = file.read(_TAIL).split(b"\n")
    except OSError:
        return []
    # The last piece is empty or a line that is being written, the first may be cut.
    whole = pieces[:-1] if size <= _TAIL else pieces[1:-1]
    found = []
    for piece in reversed(whole[-count:]):
        # A power cut may leave an incomplete line, until the job continues.
        with suppress(ValueError, KeyError, TypeError):
            line = orjson.loads(piece)
            found.append(FailedRequest(line["custom_id"], *error_in(line)))
    return found


def _label(batch: Batch) -> str:
    metadata = metadata_of(batch)
    return next((metadata[name] for name in _LABELS if metadata.get(name)), "")
