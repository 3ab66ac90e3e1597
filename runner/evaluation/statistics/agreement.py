"""Labels against labels: confusion counts, F1, kappa; and pass@k."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runner.evaluation.statistics.intervals import Floats, Ints

_DRAWN_AT_ONCE = 100
"""Bootstrap draws in memory at once: with 200 labels, a draw has 40,401 counts."""


def confusion(expected: Ints, found: Ints, labels: int) -> Ints:
    """Return counts of [expected, found]; numbers from `labels` on and below 0 share one further column."""
    one = cluster_confusions(expected, found, labels, np.zeros(len(expected), np.int64))
    return one.reshape(one.shape[1:])


def cluster_confusions(expected: Ints, found: Ints, labels: int, clusters: Ints) -> Ints:
    """Return `confusion` of each cluster, [clusters, expected, found]. `clusters` numbers them from 0."""
    column = np.where((found >= 0) & (found < labels), found, labels)
    row = np.where((expected >= 0) & (expected < labels), expected, labels)
    size, groups = labels + 1, int(clusters.max(initial=0)) + 1
    counts = np.bincount((clusters * size + row) * size + column, minlength=groups * size**2)
    return counts.reshape(groups, size, size).astype(np.int64)


def f1_scores(counts: Ints) -> list[float]:
    """Return each label's F1, without the further column; 0 for a label that never occurs."""
    scores = []
    for label in range(len(counts) - 1):
        right = int(counts[label, label])
        size = int(counts[label].sum()) + int(counts[:, label].sum())
        scores.append(2 * right / size if size else 0.0)
    return scores


def macro_f1(counts: Ints) -> float:
    """Return the mean of all labels' F1, absent labels as 0 (as scikit-learn does with `labels`)."""
    scores = f1_scores(counts)
    return sum(scores) / len(scores) if scores else math.nan


def cohen_kappa(counts: Ints) -> float:
    """Return Cohen's kappa (1960) of a square table; NaN if chance explains full agreement."""
    total = int(counts.sum())
    if not total:
        return math.nan
    agreed = float(np.trace(counts)) / total
    chance = float(np.dot(counts.sum(0), counts.sum(1))) / total**2
    return (agreed - chance) / (1 - chance) if chance < 1 else math.nan


def pass_at_k(tried: int, right: int, k: int) -> float:
    """Return the chance that one of `k` tries is right: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021)."""
    if tried < k:
        raise ValueError(f"pass@{k} needs at least {k} replicates")
    return 1 - math.comb(tried - right, k) / math.comb(tried, k)


def macro_f1_draws(tables: Sequence[Ints] | Ints, seed: bytes, draws: int = 10_000) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of macro F1 over bootstrap draws.

    `tables` has each cluster's confusion counts. One table means independent rows, whose cells are drawn. The seed is a
    digest; NumPy's RandomState is frozen (NEP 19), so every version draws the same numbers.
    """
    random = np.random.RandomState(np.frombuffer(seed[:16].ljust(16, b"\0"), np.uint32))
    stacked = np.asarray(tables, np.int64)
    flat = stacked.reshape(-1, stacked.shape[-1] ** 2)
    groups, total = len(flat), int(flat.sum())

    def drawn(count: int) -> Ints:
        if stacked.ndim == 2:
            return random.multinomial(total, flat[0] / total, count)
        weights = np.full(groups, 1 / groups)
        return np.array([random.multinomial(groups, weights) @ flat for _ in range(count)])

    steps = [min(_DRAWN_AT_ONCE, draws - start) for start in range(0, draws, _DRAWN_AT_ONCE)]
    found = [_macro_f1s(drawn(step).reshape(step, *stacked.shape[-2:])) for step in steps]
    low, high = np.quantile(np.sort(np.concatenate(found)), [0.025, 0.975])
    return float(low), float(high)


def _macro_f1s(tables: Ints) -> Floats:
    """Return `macro_f1` of each of [tables, expected, found]."""
    labels = tables.shape[1] - 1
    right = np.diagonal(tables, axis1=1, axis2=2)[:, :labels]
    sizes = (tables.sum(axis=1) + tables.sum(axis=2))[:, :labels]
    scores = np.where(sizes > 0, 2 * right / np.maximum(sizes, 1), 0.0)
    return np.asarray(scores.sum(axis=1) / labels, np.float64)
