"""Is a difference chance? A sign-flip test, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runner.evaluation.statistics.intervals import Floats, Ints, cluster_sums
from runner.evaluation.statistics.student import normal_two_sided

MAX_EXACT = 20_000
"""The largest sum of absolute cluster differences, in their smallest unit, that is convolved exactly."""
_SCALE = 1_000_000
"""Scores have six decimals."""


def sign_flip_p(new: Floats, old: Floats, clusters: Ints) -> float:
    """Return the two-sided mid-p value of a paired difference: each cluster's sum may have had the other sign.

    Without clusters and for scores of 0 and 1 this is McNemar's mid-p test (Fagerland, Lydersen, Laake 2013). Above
    MAX_EXACT it is the normal approximation.
    """
    sums = np.rint(cluster_sums(new - old, clusters) * _SCALE).astype(np.int64)
    sizes, observed = np.abs(sums[sums != 0]), int(sums.sum())
    if not len(sizes):
        return 1.0
    unit = int(np.gcd.reduce(sizes))
    steps = (sizes // unit).tolist()
    if sum(steps) > MAX_EXACT:
        return normal_two_sided(observed / math.sqrt(float(np.dot(sizes.astype(float), sizes.astype(float)))))
    return _mid_p(steps, abs(observed) // unit)


def _mid_p(steps: Sequence[int], observed: int) -> float:
    """Return P(|T| > observed) + P(|T| = observed) / 2 for T, the sum of `steps` with random signs."""
    total = sum(steps)
    chances = np.zeros(2 * total + 1)
    chances[total] = 1.0
    reached = 0
    for step in sorted(steps):
        here = chances[total - reached : total + reached + 1] / 2
        chances[total - reached : total + reached + 1] = 0.0
        reached += step
        chances[total - reached : total - reached + len(here)] += here
        chances[total + reached - len(here) + 1 : total + reached + 1] += here
    distances = np.abs(np.arange(-total, total + 1))
    beyond = float(chances[distances > observed].sum())
    return min(1.0, beyond + float(chances[distances == observed].sum()) / 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for all of them (Holm 1979), in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def smallest_detectable(se: float) -> float:
    """Return the difference that a two-sided 5 % test finds in 80 of 100 runs: (1.960 + 0.842) standard errors."""
    return 2.80 * se


def assumed_se(rows: int, discordance: float = 0.1) -> float:
    """Return a paired difference's standard error if this share of rows changes either way."""
    return math.sqrt(discordance / rows) if rows else math.inf
