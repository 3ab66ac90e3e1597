"""What a comparison of so many rows can show, before anything is paid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist

from runner.evaluation.gates import gate_text
from runner.evaluation.statistics.significance import assumed_se, smallest_detectable
from runner.jobspec.evaluate_options import Evaluate

DISCORDANCE = 0.1
"""Assumed share of rows whose score changes between two versions, if no earlier run is known."""
_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(0.975)
_LIKELY = 0.8


def plan_notes(evaluate: Evaluate, rows: int) -> Iterator[str]:
    """Yield what a plan tells about graders and gates of so many rows."""
    gates = f", {len(evaluate.gates)} gate{'s' if len(evaluate.gates) > 1 else ''}" if evaluate.gates else ""
    yield f"graded by {', '.join(evaluate.graders)}{gates}"
    if not rows:
        return
    if evaluate.against is not None or any(gate.max_drop is not None for gate in evaluate.gates):
        least = smallest_detectable(assumed_se(rows, DISCORDANCE))
        yield (
            f"with {rows:,} rows, a difference below {least:.3f} is hard to tell from chance "
            f"(assumes that {DISCORDANCE:.0%} of the rows change)"
        )
    for gate in evaluate.gates:
        if gate.max_drop:
            chance = _NORMAL.cdf(gate.max_drop / assumed_se(rows, DISCORDANCE) - _Z)
            if chance < _LIKELY:
                half = math.ceil(DISCORDANCE * (_Z / gate.max_drop) ** 2 / 100) * 100
                more = f"; with {half:,} rows: 1 of 2" if half > rows else ""
                yield (f"gate {gate_text(gate)}: passes in about {_one_of(chance)} runs even if nothing changed{more}")


def _one_of(chance: float) -> str:
    return f"1 of {round(1 / chance):,}" if chance >= 0.001 else "none of 1,000"
