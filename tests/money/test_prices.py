"""Prices are batch rates, or say that they are not; money is never a float on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from runner.money.estimate import Caching, Measured
from runner.money.prices import Price, Usage, drift_text, find_price, most_text, usd, usd_text

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(("amount", "text"), [("0.000121", "$0.00013"), ("0.12", "$0.12"), ("0.1201", "$0.13")])
def test_a_limit_is_never_shown_lower_than_it_is(amount: str, text: str) -> None:
    assert most_text(Decimal(amount)) == text


def test_a_batch_costs_half() -> None:
    price = find_price("gpt-4o-mini", "openai", {}, NOW)
    assert price is not None
    assert (price.input, price.output, price.batch) == (Decimal("0.075"), Decimal("0.3"), True)
    assert "batch rate" in price.source


def test_a_model_without_a_batch_rate_has_the_full_price_and_says_so() -> None:
    price = find_price("claude-3-5-haiku-latest", "anthropic", {}, NOW)
    assert price is not None
    assert (price.input, price.output, price.batch) == (Decimal("0.8"), Decimal(4), False)
    assert "full price: it has no batch rate" in price.source


def test_a_model_that_nobody_knows_has_no_price() -> None:
    assert find_price("llama3.3-70b-instruct", "openai", {}, NOW) is None


def test_batchspec_yaml_comes_first() -> None:
    own = Price(Decimal(1), Decimal(2), Decimal("0.5"), "batchspec.yaml")
    assert find_price("gpt-4o-mini", "openai", {"gpt-4o-mini": own}, NOW) is own


def test_a_price_with_a_step_is_that_of_the_usual_request() -> None:
    """claude-sonnet-4-5 doubles beyond 200,000 tokens of input: a million small requests don't reach that."""
    small = find_price("claude-sonnet-4-5", "anthropic", {}, NOW, request_tokens=1_000)
    large = find_price("claude-sonnet-4-5", "anthropic", {}, NOW, request_tokens=300_000)
    assert small is not None
    assert large is not None
    assert small.input == Decimal("1.5")
    assert large.input > small.input


def test_cached_tokens_are_part_of_the_input_at_openai_and_beside_it_at_anthropic() -> None:
    price = Price(Decimal(10), Decimal(0), Decimal(1), "test")
    assert price.cost(Usage(1_000_000, 0, 400_000)) == Decimal("6.4")
    assert price.cost(Usage(1_000_000, 0, 400_000, within=False)) == Decimal("10.4")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0"),
        ("0.00000001", "under $0.000001"),
        ("0.000123456", "$0.00012"),
        ("0.0456", "$0.046"),
        ("0.125", "$0.13"),
        ("3.999", "$4.00"),
        ("1234567.891", "$1,234,567.89"),
    ],
)
def test_amounts_as_people_read_them(amount: str, text: str) -> None:
    assert usd_text(Decimal(amount)) == text


def test_the_drift_in_words() -> None:
    assert drift_text(Decimal("0.9"), Decimal(1)) == "10 % less than the $1.00 expected"
    assert drift_text(Decimal("1.25"), Decimal(1)) == "25 % more than the $1.00 expected"
    assert drift_text(Decimal(1), Decimal(1)) == "$1.00 expected"
    assert drift_text(Decimal("1.004"), Decimal(1)) == "$1.00 expected"


def test_amounts_are_written_to_a_millionth() -> None:
    assert usd(Decimal("0.0000005")) == Decimal("0.000001")
    assert float(usd(Decimal("123456.7890125"))) == 123456.789013


def test_tokens_written_to_a_cache_cost_more() -> None:
    """Five minutes cost 1.25 times the input, an hour twice; OpenAI counts writes within its input."""
    price = Price(Decimal(10), Decimal(0), Decimal(1), "test")
    assert price.cost(Usage(100_000, 0, 200_000, False, 300_000, 100_000)) == Decimal("5.7")
    assert price.cost(Usage(1_000_000, 0, 400_000, written=600_000)) == Decimal("7.9")
    known = find_price("claude-sonnet-4-5", "anthropic", {}, NOW)
    assert known is not None
    assert known.write_rates == (known.input * Decimal("1.25"), known.input * 2)


def test_estimates_know_what_caching_costs() -> None:
    """What is likely has the measured shares; a ceiling takes all prompts for written; the least takes them for read."""
    price = Price(Decimal(10), Decimal(0), Decimal(1), "test")
    used = Usage(1_000_000, 0, 400_000, written=200_000, written_hour=0)
    caching = Caching.measured([Measured(1, 1, 1, 1_000_000, 0, used)], "1h")
    assert price.cost(caching.likely(1_000_000, 0)) == Decimal("6.9")
    assert price.cost(caching.most(1_000_000, 0, price)) == Decimal(20)
    assert price.cost(caching.least(1_000_000)) == Decimal(1)
    plain = Caching.measured([], None)
    assert {price.cost(usage) for usage in (plain.likely(10, 0), plain.most(10, 0, price), plain.least(10))} == {
        Decimal("0.0001")
    }
