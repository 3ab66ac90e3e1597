"""Rows whose score changed between two versions of an output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runner.evaluation.scoring import score_baseline
from runner.planner.render import Desired


@dataclass(frozen=True, slots=True)
class Flip:
    """One row's score by one grader, before and after. `id` is JSON."""

    id: str
    grader: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class Flips:
    """Worse and better rows: counts by grader, and the first ones, losses first."""

    worse: dict[str, int]
    better: dict[str, int]
    rows: tuple[Flip, ...]


def score_changes(desired: Desired, before: Path, after: Path, scratch: Path, limit: int) -> Flips:
    """Grade two versions of an output, as JSON Lines, with today's graders. Only rows in both count."""
    output = desired.spec.job.output.model_copy(update={"path": "versions.jsonl", "format": "jsonl"})
    old = score_baseline(desired, before, output, scratch / "old.db")
    new = score_baseline(desired, after, output, scratch / "new.db")
    both = old.present & new.present
    found: list[tuple[float, int, str]] = []
    worse, better = {}, {}
    for name, scores in new.graders.items():
        change = np.where(both, scores.row_scores - old.graders[name].row_scores, 0.0)
        worse[name], better[name] = int(np.sum(change < 0)), int(np.sum(change > 0))
        found += [(float(change[row]), row, name) for row in np.flatnonzero(change).tolist()]
    chosen = sorted(found)[:limit]
    wanted = {row for _, row, _ in chosen}
    ids = {row: name.decode() for row, name in enumerate(desired.spool.ids()) if row in wanted}
    rows = tuple(
        Flip(ids[row], name, float(old.graders[name].row_scores[row]), float(new.graders[name].row_scores[row]))
        for _, row, name in chosen
    )
    return Flips(worse, better, rows)
