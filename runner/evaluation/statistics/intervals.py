"""Means, differences and 95 % intervals, for rows in clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from runner.evaluation.statistics.student import t_quantile

LEVEL = 0.95
_UPPER = 0.5 + LEVEL / 2
_Z = NormalDist().inv_cdf(_UPPER)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value, its 95 % interval and its standard error; NaN if unknown."""

    value: float
    low: float
    high: float
    se: float


def cluster_sums(values: Floats, clusters: Ints) -> Floats:
    """Return the sum of values in each cluster. `clusters` counts from 0."""
    sums = np.bincount(clusters, values, minlength=int(clusters.max(initial=-1)) + 1)
    return np.asarray(sums, np.float64)


def cluster_se(values: Floats, clusters: Ints) -> float:
    """Return the standard error of the mean of clustered rows (Miller 2024, "Adding Error Bars to Evals").

    With G clusters: SE^2 = G/(G-1) x sum of squared cluster residuals / n^2. NaN for fewer than two clusters.
    """
    rows, groups = len(values), int(clusters.max(initial=-1)) + 1
    if groups < 2:
        return math.nan
    residuals = cluster_sums(values - values.mean(), clusters)
    return math.sqrt(groups / (groups - 1) * float(np.dot(residuals, residuals))) / rows


def design_effect(values: Floats, clusters: Ints) -> float:
    """Return how many times clustering multiplies the mean's variance; 1 without variance."""
    independent = cluster_se(values, np.arange(len(values)))
    clustered = cluster_se(values, clusters)
    if not independent > 0 or math.isnan(clustered):
        return 1.0
    return (clustered / independent) ** 2


def proportion_interval(values: Floats, clusters: Ints) -> Interval:
    """Return the share of ones and its Wilson interval.

    Clustered rows count as n / max(1, design effect) rows, with Student's t for G - 1 degrees of freedom. If all rows
    are right, or all wrong, the design effect is unknown, and clusters count as rows.
    """
    rows, groups = len(values), int(clusters.max(initial=-1)) + 1
    if rows == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan)
    share = float(values.mean())
    if groups < 2 and rows > 1:
        return Interval(share, 0.0, 1.0, math.nan)
    same = share in {0.0, 1.0}
    effective = groups if same else rows / max(1.0, design_effect(values, clusters))
    low, high = wilson(share, effective, _quantile(rows, groups))
    return Interval(share, low, high, cluster_se(values, clusters))


def wilson(share: float, rows: float, quantile: float = _Z) -> tuple[float, float]:
    """Return Wilson's interval of a share of `rows` (Wilson 1927; Newcombe 1998, method 3)."""
    squared = quantile * quantile
    center = (share + squared / (2 * rows)) / (1 + squared / rows)
    half = quantile / (1 + squared / rows) * math.sqrt(share * (1 - share) / rows + squared / (4 * rows * rows))
    low, high = max(0.0, center - half), min(1.0, center + half)
    return (0.0 if share == 0 else low), (1.0 if share == 1 else high)


def mean_interval(values: Floats, clusters: Ints) -> Interval:
    """Return the mean and its interval: mean +/- t(G-1) x SE; NaN without two clusters."""
    rows, groups = len(values), int(clusters.max(initial=-1)) + 1
    if rows == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan)
    mean, se = float(values.mean()), cluster_se(values, clusters)
    if math.isnan(se):
        return Interval(mean, math.nan, math.nan, math.nan)
    half = t_quantile(_UPPER, groups - 1) * se
    return Interval(mean, mean - half, mean + half, se)


def paired_difference(new: Floats, old: Floats, clusters: Ints) -> Interval:
    """Return mean(new) - mean(old) of the same rows, and its interval.

    Scores of 0 and 1 use Bonett and Price (2012) on n / max(1, design effect) rows; others the mean of differences.
    """
    differences = new - old
    if not (is_binary(new) and is_binary(old)):
        return mean_interval(differences, clusters)
    rows, groups = len(differences), int(clusters.max(initial=-1)) + 1
    if rows == 0:
        return Interval(math.nan, math.nan, math.nan, math.nan)
    value, se = float(differences.mean()), cluster_se(differences, clusters)
    if groups < 2 and rows > 1:
        return Interval(value, -1.0, 1.0, math.nan)
    same = bool(np.all(differences == differences[0]))
    effective = groups if same else rows / max(1.0, design_effect(differences, clusters))
    better = float(np.mean(differences > 0)) * effective
    worse = float(np.mean(differences < 0)) * effective
    low, high = bonett_price(better, worse, effective, _quantile(rows, groups))
    return Interval(value, low, high, se)


def bonett_price(better: float, worse: float, rows: float, quantile: float = _Z) -> tuple[float, float]:
    """Return the interval of a paired difference of shares, from the numbers of better and worse rows."""
    gain, loss = (better + 1) / (rows + 2), (worse + 1) / (rows + 2)
    half = quantile * math.sqrt((gain + loss - (gain - loss) ** 2) / (rows + 2))
    return max(-1.0, gain - loss - half), min(1.0, gain - loss + half)


def is_binary(values: Floats) -> bool:
    """Return whether all values are 0 or 1."""
    return bool(np.all((values == 0) | (values == 1)))


def merged_clusters(*labels: Ints) -> Ints:
    """Return clusters, numbered from 0 in order of first row: rows that share any label are in one."""
    found = np.arange(len(labels[0]))
    for label in labels:
        _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
        firsts = first[inverse]
        later = np.flatnonzero(firsts != np.arange(len(label)))
        if not len(later):
            continue
        found = _joined(found, later, firsts) if np.any(found != np.arange(len(label))) else firsts
    _, numbered = np.unique(found, return_inverse=True)
    return numbered.astype(np.int64)


def _joined(found: Ints, later: Ints, firsts: Ints) -> Ints:
    """Return the first row of each row's cluster after joining each of the `later` rows with that of `firsts`."""
    parent = found.tolist()

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for row in later.tolist():
        one, other = root(row), root(int(firsts[row]))
        parent[max(one, other)] = min(one, other)
    return np.array([root(row) for row in range(len(parent))], np.int64)


def _quantile(rows: int, groups: int) -> float:
    """Return the normal quantile for independent rows, and Student's for clusters."""
    return _Z if groups == rows else t_quantile(_UPPER, groups - 1)
