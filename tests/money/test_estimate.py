"""Estimates are ranges that say what they come from; budgets hold at the ceiling, or say why they can't."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runner.money.budget import Budget, overruns
from runner.money.estimate import (
    Estimate,
    Measured,
    Output,
    Share,
    input_from_bytes,
    input_from_history,
    output_range,
    token_limit,
)
from runner.money.prices import Price
from runner.money.token_sample import Tokens
from runner.money.tokens import Certainty

PRICE = Price(Decimal(1), Decimal(2), Decimal("0.5"), "test")
EARLIER = (Measured(4_000, 10, 10, 1_000, 50), Measured(3_000, 10, 10, 1_000, 150))


def estimate(requests: int = 100, *, high: int | None = 2_000, price: Price | None = PRICE) -> Estimate:
    tokens = Tokens(900, 1_000, 1_100, Certainty.ESTIMATED, "test")
    return Estimate(requests, 4_000, "m", tokens, Output(500, high), price)


def test_the_ratio_that_earlier_runs_measured() -> None:
    found = input_from_history(EARLIER, 7_000)
    assert found is not None
    assert found.expected == 2_000
    assert found.low < 1_750
    assert found.high > 2_333
    assert found.basis == "3.50 bytes a token over 2 earlier batches"


def test_a_batch_with_unanswered_requests_measures_nothing() -> None:
    """Its bytes were sent for all requests, and its tokens counted for some."""
    assert input_from_history([Measured(4_000, 10, 9, 900, 45)], 7_000) is None


def test_bytes_alone_are_a_wide_range() -> None:
    found = input_from_bytes(8_000)
    assert (found.low, found.expected, found.high) == (1_000, 2_000, 4_000)
    assert found.certainty is Certainty.ESTIMATED


def test_output_goes_from_what_earlier_runs_took_to_the_limit() -> None:
    assert output_range(10, EARLIER, {"max_tokens": 64}) == Output(100, 640)
    assert output_range(10, EARLIER, {}) == Output(100, None)
    assert output_range(10, (), {"max_output_tokens": 64}) == Output(None, 640)
    assert output_range(10, EARLIER, {"max_tokens": 5}) == Output(50, 50)


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "n": 3}, 21),
        ({"max_output_tokens": True}, None),
        ({}, None),
    ],
)
def test_the_limit_of_one_request(parameters: dict[str, object], limit: int | None) -> None:
    assert token_limit(parameters) == limit


def test_money_from_tokens() -> None:
    found = estimate()
    assert (found.least, found.expected, found.ceiling) == (Decimal("0.0009"), Decimal("0.002"), Decimal("0.0051"))


def test_a_batch_has_its_share_of_the_estimate() -> None:
    assert estimate().share(50, 1_000) == Share(250, 250, Decimal("0.00075"), at_most=False)
    assert estimate(price=None).share(50, 1_000) == Share(250, 250, None, at_most=False)


def test_without_a_price_there_are_tokens_and_no_money() -> None:
    found = estimate(price=None)
    assert (found.least, found.expected, found.ceiling) == (None, None, None)
    assert found.most_tokens == 3_100


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (Budget(max_requests=199), "200 requests; the budget is 199, so 1 too many"),
        (Budget(max_tokens=6_000), "up to 6,200 tokens; the budget is 6,000, so 200 too many"),
        (Budget(max_cost_usd=Decimal("0.01")), "up to $0.011; the budget is $0.010, so $0.00020 too much"),
        (Budget(max_cost_usd=Decimal("0.005")), "up to $0.011; the budget is $0.0050, so $0.0052 too much"),
    ],
)
def test_a_plan_over_its_budget_says_by_how_much(budget: Budget, text: str) -> None:
    [found] = overruns(budget, [estimate(), estimate()])
    assert found.text == text


def test_a_plan_at_its_budget_is_inside_it() -> None:
    exact = Budget(Decimal("0.0102"), 200, 6_200)
    assert overruns(exact, [estimate(), estimate()]) == ()
    assert overruns(Budget(), [estimate()]) == ()


def test_a_budget_that_cant_be_held_is_not_held() -> None:
    """Without a price or a limit on the answers nothing bounds the cost: that is no reason to go ahead."""
    [unpriced] = overruns(Budget(max_cost_usd=Decimal(1_000)), [estimate(price=None)])
    assert "Add one under `prices:`" in unpriced.text
    limitless = overruns(Budget(Decimal(1_000), max_tokens=10**9), [estimate(high=None)])
    assert [one.field for one in limitless] == ["max_tokens", "max_cost_usd"]
    assert all("Set max_tokens" in one.text for one in limitless)


def test_a_job_with_nothing_to_submit_breaks_no_budget() -> None:
    assert (
        overruns(Budget(Decimal(0), 0, 0), [Estimate(0, 0, "m", input_from_bytes(0), Output(None, None), None)]) == ()
    )
