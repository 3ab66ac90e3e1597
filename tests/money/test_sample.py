"""A sample is the same on every machine, and its error bar holds the truth."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.money.sample import Tokens, as_numbers, extrapolate, smallest
from runner.money.tokens import Certainty

E = Certainty.ESTIMATED


def digests(count: int, seed: int = 0) -> npt.NDArray[np.bytes_]:
    return np.array([hashlib.sha256(f"{seed} {n}".encode()).digest()[:20] for n in range(count)], "S20")


@given(st.integers(1, 300), st.integers(1, 400), st.integers(1, 50), st.randoms())
def test_the_sample_does_not_depend_on_order_or_blocks(
    total: int, count: int, size: int, shuffle: random.Random
) -> None:
    keys = digests(total)
    other = keys[shuffle.sample(range(total), total)]
    one = smallest([keys], count)
    two = smallest([other[start : start + size] for start in range(0, total, size)], count)
    assert one == two
    chosen = total if one is None else int((as_numbers(keys) <= one).sum())
    assert chosen == min(total, count)


def test_numbers_sort_as_digests_do() -> None:
    keys = np.sort(digests(200))
    assert (np.diff(as_numbers(keys).astype(object)) > 0).all()


def test_a_digest_that_ends_in_zeros_is_read_whole() -> None:
    """NumPy drops trailing zero bytes of strings when it hands them out; numbers must not."""
    assert as_numbers(np.array([b"\x01"], "S20"))[0] == 1 << 56


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
