"""An answer's cost at the price that the lockfile records for its batch.

Never uses today's price: a rewritten output has the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from runner.money.prices import Price, Usage
from runner.outputs.usage import ROW_FIELDS
from runner.state.lockfile_lines import BatchLine, PriceField


class RowCosts:
    """Costs of a job's rows."""

    def __init__(self, batches: Mapping[str, BatchLine], line_format: str) -> None:
        self._within = line_format == "openai"
        self._prices = {batch: _price(line.price) for batch, line in batches.items() if line.price is not None}

    def cost(self, row: Mapping[str, Any]) -> float | None:
        """Return USD, not rounded; None if unbilled or without a price."""
        price, usage = self._prices.get(row["batch"]), row["usage"]
        if price is None or not isinstance(usage, dict):
            return None
        given, taken, cached, written, hour = (usage.get(name) or 0 for name in ROW_FIELDS)
        return float(price.cost(Usage(given, taken, cached, self._within, written, hour)))


def _price(found: PriceField) -> Price:
    written = None if found.cache_write is None else _exactly(found.cache_write)
    hour = None if found.cache_write_1h is None else _exactly(found.cache_write_1h)
    rates = _exactly(found.input), _exactly(found.output), _exactly(found.cached)
    return Price(*rates, "the lockfile", written=written, written_hour=hour)


def _exactly(amount: float) -> Decimal:
    return Decimal(str(amount))
