"""What one answer cost: its tokens at the price that its batch's line in the lockfile holds.

The lockfile's price and nothing of today's, so that an output that is written again has the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from runner.money.prices import Price, Usage
from runner.reconciler.lockfile import BatchLine


class RowCosts:
    """Costs of a job's rows."""

    def __init__(self, batches: Mapping[str, BatchLine], line_format: str) -> None:
        self._within = line_format == "openai"
        self._prices = {
            batch: Price(_exactly(p.input), _exactly(p.output), _exactly(p.cached), "the lockfile")
            for batch, line in batches.items()
            if (p := line.price) is not None
        }

    def of(self, row: Mapping[str, Any]) -> float | None:
        """USD, not rounded; None where nothing was billed or the batch's line has no price."""
        price, usage = self._prices.get(row["batch"]), row["usage"]
        if price is None or not isinstance(usage, dict):
            return None
        given, taken, cached = (usage.get(f"{name}_tokens") or 0 for name in ("input", "output", "cached"))
        return float(price.cost(Usage(given, taken, cached, within=self._within)))


def _exactly(amount: float) -> Decimal:
    """A number as it was written: 0.1 is a tenth."""
    return Decimal(str(amount))
