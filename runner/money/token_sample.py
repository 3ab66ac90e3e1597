"""Deterministic samples, for stable plans and one-shard canaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runner.money.tokens import Certainty

Z = 1.96
"""Standard errors on each side of the error bar, which holds the true number in 95 of 100 cases."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens, with their range and origin."""

    low: int
    expected: int
    high: int
    certainty: Certainty
    basis: str

    def __add__(self, other: Tokens) -> Tokens:
        worst = max(self.certainty, other.certainty, key=list(Certainty).index)
        basis = self.basis if self.basis == other.basis else f"{self.basis}; {other.basis}"
        return Tokens(self.low + other.low, self.expected + other.expected, self.high + other.high, worst, basis)


class Spread:
    """Chooses `count` of `total` items evenly, in order."""

    def __init__(self, total: int, count: int) -> None:
        self._total = max(1, total)
        self._count = min(count, total)
        self._seen = 0

    def choose(self, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Choose among a block's `wanted` items."""
        places = np.flatnonzero(wanted)
        order = self._seen + np.arange(len(places), dtype=np.int64)
        self._seen += len(places)
        # Choose an item if the running share passes a whole number.
        kept = (order + 1) * self._count // self._total > order * self._count // self._total
        chosen = np.zeros(len(wanted), bool)
        chosen[places[kept]] = True
        return chosen


def extrapolate(sizes: Sequence[int], tokens: Sequence[int], requests: int, size: int, certainty: Certainty) -> Tokens:
    """Estimate the tokens of `requests` requests with `size` bytes from a sample.

    The error bar comes from tokens per byte (ratio estimator: Cochran, Sampling Techniques, chapter 6).
    """
    count = len(sizes)
    if count >= requests:
        total = sum(tokens)
        return Tokens(total, total, total, certainty, f"{requests:,} request{'s' * (requests != 1)} counted")
    ratio = sum(tokens) / max(1, sum(sizes))
    scatter = sum((t - ratio * s) ** 2 for s, t in zip(sizes, tokens, strict=True)) / max(1, count - 1)
    error = Z * requests * math.sqrt((1 - count / requests) * scatter / count)
    expected = round(ratio * size)
    bar = math.ceil(error)
    share = error / expected * 100 if expected else 0.0
    basis = f"{count:,} of {requests:,} requests counted, ±{share:.1f} %"
    return Tokens(max(0, expected - bar), expected, expected + bar, Certainty.ESTIMATED, basis)
