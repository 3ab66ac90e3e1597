"""Samples that every machine draws alike: the requests with the smallest key digests, whatever their order.

A digest is as good as a random number, so such a sample is spread over the whole input; and the same requests are in
it on every machine and in every run, so that a plan is stable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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


def smallest(blocks: Iterable[npt.NDArray[np.bytes_]], count: int) -> int | None:
    """The limit below or at which `count` of the digests lie, read as numbers by `as_numbers`; None where all do."""
    lowest = np.empty(0, np.uint64)
    seen = 0
    for block in blocks:
        seen += len(block)
        lowest = np.concatenate((lowest, as_numbers(block)))
        if len(lowest) > count:
            lowest = np.partition(lowest, count - 1)[:count]
    return None if seen <= count or count <= 0 else int(lowest.max())


def as_numbers(digests: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each digest as a number, big-endian, so that numbers sort as digests do."""
    if not len(digests):
        return np.empty(0, np.uint64)
    raw = np.ascontiguousarray(digests).view(np.uint8).reshape(len(digests), -1)[:, :8]
    return np.ascontiguousarray(raw).view(">u8").reshape(-1).astype(np.uint64)


def extrapolate(sizes: Sequence[int], tokens: Sequence[int], requests: int, size: int, certainty: Certainty) -> Tokens:
    """Tokens of `requests` requests with `size` bytes in all, from those of a sample (sizes in bytes).

    Tokens go with bytes, so the sample gives tokens for each byte, and its scatter around that the error bar (the ratio
    estimator of survey sampling, e.g. Cochran, Sampling Techniques, chapter 6).
    """
    count = len(sizes)
    if count >= requests:
        total = sum(tokens)
        return Tokens(total, total, total, certainty, f"{requests:,} requests counted")
    ratio = sum(tokens) / max(1, sum(sizes))
    scatter = sum((t - ratio * s) ** 2 for s, t in zip(sizes, tokens, strict=True)) / max(1, count - 1)
    error = Z * requests * math.sqrt((1 - count / requests) * scatter / count)
    expected = round(ratio * size)
    bar = math.ceil(error)
    share = error / expected * 100 if expected else 0.0
    basis = f"{count:,} of {requests:,} requests counted, ±{share:.1f} %"
    return Tokens(max(0, expected - bar), expected, expected + bar, Certainty.ESTIMATED, basis)
