"""A sample is the same on every machine, and its error bar holds the truth."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.money.token_sample import Spread, Tokens, extrapolate
from runner.money.tokens import Certainty

E = Certainty.ESTIMATED


@given(st.lists(st.lists(st.booleans(), max_size=30), max_size=12), st.integers(1, 60))
def test_a_spread_has_the_right_size_in_blocks_of_any_size(blocks: list[list[bool]], count: int) -> None:
    total = sum(map(sum, blocks))
    spread, whole = Spread(total, count), Spread(total, count)
    chosen = [spread.choose(np.array(block, bool)) for block in blocks]
    assert sum(int(mask.sum()) for mask in chosen) == min(total, count)
    joined = np.array([one for block in blocks for one in block], bool)
    mask = whole.choose(joined)
    assert not (mask & ~joined).any(), "only what is wanted is chosen"
    assert [bool(one) for block in chosen for one in block] == [bool(one) for one in mask]


def test_a_spread_reaches_over_the_whole_input() -> None:
    chosen = np.flatnonzero(Spread(1_000_000, 100).choose(np.ones(1_000_000, bool)))
    assert len(chosen) == 100
    assert set(np.diff(chosen)) == {10_000}


def test_everything_counted_has_no_error_bar() -> None:
    assert extrapolate([10, 20], [3, 5], 2, 30, Certainty.EXACT) == Tokens(
        8, 8, 8, Certainty.EXACT, "2 requests counted"
    )


def test_the_error_bar_holds_the_truth_in_about_95_of_100_samples() -> None:
    rng = random.Random(7)
    sizes = [rng.randint(50, 5000) for _ in range(20_000)]
    tokens = [round(size / rng.uniform(3, 5)) + 8 for size in sizes]
    held = 0
    for _ in range(200):
        chosen = rng.sample(range(len(sizes)), 500)
        found = extrapolate([sizes[n] for n in chosen], [tokens[n] for n in chosen], len(sizes), sum(sizes), E)
        held += found.low <= sum(tokens) <= found.high
        assert found.high - found.low < 0.06 * sum(tokens)
    assert 180 <= held <= 200


def test_adding_takes_the_worse_certainty() -> None:
    both = Tokens(1, 1, 1, Certainty.EXACT, "a") + Tokens(1, 2, 3, Certainty.ASSUMED, "b")
    assert both == Tokens(2, 3, 4, Certainty.ASSUMED, "a; b")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_equal_requests_have_no_scatter(share: float) -> None:
    found = extrapolate([100] * 10, [25] * 10, 1000, 100_000, E)
    assert (found.low, found.expected, found.high) == (25_000, 25_000, 25_000)
