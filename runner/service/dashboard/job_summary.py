"""What the page shows of a job beyond its record: its history, how long it took, and its last failed requests."""

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
"""Names of metadata that say whose job it is, the most telling first."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that failed."""

    custom_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job as the page has it. `took` is in seconds; `trouble` is what went wrong last, None where nothing did."""

    batch: Batch
    label: str
    took: float
    has_results: bool
    trouble: Refusal | LineError | None
    history: tuple[tuple[float, str], ...]


def job_summary(batch: Batch, folder: Path, now: float) -> JobSummary:
    """Look at a job whose result files lie in `folder`."""
    reasons = reasons_of(batch)
    troubles: list[Refusal | LineError] = [*reasons]
    if batch.failed and not reasons:
        troubles += last_refusals(folder / ERRORS, 1)
    moments = [(at, step) for step in _STEPS if (at := getattr(batch, f"{step}_at")) is not None]
    return JobSummary(
        batch=batch,
        label=_label(batch),
        took=max((batch.ended_at or now) - batch.created_at, 0.0),
        has_results=has_results(batch),
        trouble=next(iter(troubles), None),
        history=tuple(sorted(moments, key=lambda moment: moment[0])),
    )


def reasons_of(batch: Batch) -> list[LineError]:
    """Why a job failed, empty where it did not."""
    return [LineError(**reason) for reason in orjson.loads(batch.errors)] if batch.errors else []


def metadata_of(batch: Batch) -> dict[str, str]:
    """What the client wrote beside the job."""
    metadata: dict[str, str] = orjson.loads(batch.metadata) if batch.metadata else {}
    return metadata


def last_refusals(path: Path, count: int) -> list[Refusal]:
    """The last failed requests of a job, the newest first, as far as they stand in the file's last 64 kB."""
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
        # What a power cut left of a line is cut off when the job goes on; until then it stands here.
        with suppress(ValueError, KeyError, TypeError):
            line = orjson.loads(piece)
            found.append(Refusal(line["custom_id"], *error_in(line)))
    return found


def _label(batch: Batch) -> str:
    metadata = metadata_of(batch)
    return next((metadata[name] for name in _LABELS if metadata.get(name)), "")
