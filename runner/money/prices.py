"""Prices from batchspec.yaml, else from genai-prices (`Price.batch` is False without a batch rate)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal

from runner.base.model_facts import bare_model

MILLION = Decimal(1_000_000)
_WRITE, _WRITE_HOUR = Decimal("1.25"), Decimal(2)
_CENT_OF_A_CENT = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens used. `written` to a cache includes `written_hour`.

    `within`: `input` includes cache tokens, as at OpenAI but not Anthropic.
    """

    input: int
    output: int
    cached: int = 0
    within: bool = True
    written: int = 0
    written_hour: int = 0

    @property
    def given(self) -> int:
        """Return all tokens of the prompts."""
        return self.input if self.within else self.input + self.cached + self.written


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. Without `batch` these are full rates.

    Cache writes for five minutes and an hour default to 1.25 and 2 times `input`, as at Anthropic
    (platform.claude.com/docs/en/build-with-claude/prompt-caching).
    """

    input: Decimal
    output: Decimal
    cached: Decimal
    source: str
    batch: bool = True
    written: Decimal | None = None
    written_hour: Decimal | None = None

    @property
    def write_rates(self) -> tuple[Decimal, Decimal]:
        """Return the rates for five minutes and an hour."""
        minutes = self.input * _WRITE if self.written is None else self.written
        return minutes, self.input * _WRITE_HOUR if self.written_hour is None else self.written_hour

    def cost(self, usage: Usage) -> Decimal:
        """Return USD, not rounded."""
        cached, written, fresh = usage.cached, usage.written, usage.input
        if usage.within:
            cached = min(cached, fresh)
            written = min(written, fresh - cached)
            fresh -= cached + written
        hour = min(usage.written_hour, written)
        minutes_rate, hour_rate = self.write_rates
        given = self.input * fresh + self.cached * cached + minutes_rate * (written - hour) + hour_rate * hour
        return (given + self.output * usage.output) / MILLION


def find_price(
    model: str, line_format: str, own: Mapping[str, Price], at: datetime, *, request_tokens: int = 1_000
) -> Price | None:
    """Return a model's batch price at a time, if known.

    `own` comes from batchspec.yaml. Some prices depend on the usual `request_tokens`.
    """
    if model in own:
        return own[model]
    batch = _rates(model, line_format, at, request_tokens, batch=True)
    full = _rates(model, line_format, at, request_tokens, batch=False)
    if batch is None or full is None:
        return None
    discounted = batch != full
    from importlib.metadata import version  # noqa: PLC0415

    source = (
        f"genai-prices {version('genai-prices')}, {'batch rate' if discounted else 'full price: it has no batch rate'}"
    )
    return Price(batch[0], batch[1], batch[2], source, discounted, batch[3], batch[4])


def _rates(
    model: str, line_format: str, at: datetime, request_tokens: int, *, batch: bool
) -> tuple[Decimal, Decimal, Decimal, Decimal, Decimal] | None:
    """Return input, output, cache reads, cache writes (five minutes, an hour)."""
    from genai_prices import Usage as Priced  # noqa: PLC0415  it costs to import
    from genai_prices import calc_price  # noqa: PLC0415

    vendor = "anthropic" if line_format == "anthropic" else "openai"
    size = max(1, request_tokens)
    context = {"processing": "batch"} if batch else None

    def priced(**usage: int) -> tuple[Decimal, Decimal]:
        found = calc_price(
            Priced(**usage),
            bare_model(model),
            provider_id=vendor,
            genai_request_timestamp=at,
            price_context=context,
        )
        return found.input_price, found.output_price

    try:
        fresh, output = priced(input_tokens=size, output_tokens=size)
        cached, _ = priced(input_tokens=size, cache_read_tokens=size)
        written, _ = priced(input_tokens=size, cache_write_tokens=size)
        hour, _ = priced(input_tokens=size, cache_write_tokens=size, cache_write_1h_tokens=size)
    except LookupError:
        return None
    if vendor == "anthropic":  # assume the usual rates for unknown cache writes
        written, hour = max(written, fresh * _WRITE), max(hour, fresh * _WRITE_HOUR)
    rates = (rate * MILLION / size for rate in (fresh, output, cached, written, hour))
    return next(rates), next(rates), next(rates), next(rates), next(rates)


def usd(amount: Decimal, *, at_most: bool = False) -> Decimal:
    """Round to a millionth of a dollar, half up; a limit up."""
    return amount.quantize(_CENT_OF_A_CENT, ROUND_CEILING if at_most else ROUND_HALF_UP)


def usd_text(amount: Decimal, rounding: str = ROUND_HALF_UP) -> str:
    """Format cents, or two significant digits below ten cents."""
    if amount == 0:
        return "$0"
    if amount < Decimal("0.000001"):
        return "under $0.000001"
    if amount >= Decimal("0.1"):
        return f"${amount.quantize(Decimal('0.01'), rounding):,}"
    digits = 1 - amount.adjusted()
    return f"${amount.quantize(Decimal(1).scaleb(-min(digits, 6)), rounding):f}"


def most_text(ceiling: Decimal) -> str:
    """Format a ceiling, rounded up."""
    return usd_text(ceiling, ROUND_CEILING)


def cost_with_estimate(actual: Decimal, expected: Decimal | None, *, at_most: bool) -> str:
    """Compare an actual cost with its estimate or (`at_most`) limit."""
    if expected is None:
        return usd_text(actual)
    estimate = f"at most {most_text(expected)} planned" if at_most else drift_text(actual, expected)
    return f"{usd_text(actual)}, {estimate}"


def drift_text(actual: Decimal, expected: Decimal) -> str:
    """Describe a difference from the expected cost."""
    share = abs(actual - expected) / expected * 100 if expected else Decimal(0)
    if share < Decimal("0.5"):
        return f"{usd_text(expected)} expected"
    return f"{share:.0f} % {'more' if actual > expected else 'less'} than the {usd_text(expected)} expected"
