"""Samples that every machine draws alike: spread evenly over the whole input, with nothing left to chance.

The same requests are in it on every machine and in every run, so that a plan is stable and a canary is the same shard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runner.money.tokens import Certainty

Z = 1.96
"""Standard errors on each side of the error bar: 95 of 100 such bars hold the true number."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A number of tokens: `expected`, between `low` and `high`; all three are equal where every request was counted.

    `basis` says in words what it comes from.
    """

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
    """Chooses `count` of `total` things, spread evenly over their order. Asked block by block, in that order."""

    def __init__(self, total: int, count: int) -> None:
        self._total = max(1, total)
        self._count = min(count, total)
        self._seen = 0

    def take(self, wanted: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Of the things that are `wanted` in a block, the chosen ones."""
        places = np.flatnonzero(wanted)
        order = self._seen + np.arange(len(places), dtype=np.int64)
        self._seen += len(places)
        # A thing is chosen where the running share of the count passes a whole number.
        kept = (order + 1) * self._count // self._total > order * self._count // self._total
        chosen = np.zeros(len(wanted), bool)
        chosen[places[kept]] = True
        return chosen


def extrapolate(sizes: Sequence[int], tokens: Sequence[int], requests: int, size: int, certainty: Certainty) -> Tokens:
    """Tokens of `requests` requests with `size` bytes in all, from those of a sample (sizes in bytes).

    Tokens go with bytes, so the sample gives tokens for each byte, and its scatter around that the error bar (the ratio
    estimator of survey sampling, e.g. Cochran, Sampling Techniques, chapter 6).
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
