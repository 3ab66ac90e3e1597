"""Simulate how often each 95 % interval of `batchspec eval` contains the true value.

    python -m bench.coverage [--draws 10000] [--markdown]

Each setting draws many outputs whose true value is known, and counts the intervals that contain it. Clustered rows have
an intraclass correlation: each cluster draws its own chances from a beta or Dirichlet distribution.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from runner.evaluation.metrics import score_interval
from runner.evaluation.statistics.agreement import confusion, macro_f1, macro_f1_draws
from runner.evaluation.statistics.intervals import Floats, Interval, Ints, paired_difference

LOW, HIGH = 0.93, 0.97
"""The accepted coverage of a 95 % interval."""
Draw = Callable[[np.random.Generator], Interval]


@dataclass(frozen=True, slots=True)
class Setting:
    """One simulated evaluation. `correlation` is that of rows in a cluster, `truth` the value that intervals aim at."""

    method: str
    value: str
    rows: int
    clusters: int
    correlation: float
    truth: float
    draw: Draw
    share_of_draws: float = 1.0


def share(rows: int, true: float, clusters: int, correlation: float) -> Setting:
    """Return a setting with scores of 0 and 1."""

    def draw(random: np.random.Generator) -> Interval:
        chances = _chances(random, [true, 1 - true], clusters, correlation)[:, 0]
        numbers = _clusters(rows, clusters)
        return score_interval((random.random(rows) < chances[numbers]).astype(float), numbers)

    return Setting("proportion", f"share {true:g}", rows, clusters, correlation, true, draw)


def mean(rows: int, true: float, clusters: int, correlation: float) -> Setting:
    """Return a setting with scores from 0 to 1 whose spread within a cluster is that of a beta distribution."""

    def draw(random: np.random.Generator) -> Interval:
        chances = _chances(random, [true, 1 - true], clusters, correlation)[:, 0]
        numbers = _clusters(rows, clusters)
        middle = np.clip(chances[numbers], 1e-6, 1 - 1e-6)
        return score_interval(np.round(random.beta(2 * middle, 2 * (1 - middle)), 6), numbers)

    return Setting("mean", f"mean {true:g}", rows, clusters, correlation, true, draw)


def difference(rows: int, better: float, worse: float, clusters: int, correlation: float) -> Setting:
    """Return a setting that compares scores of 0 and 1 on the same rows."""

    def draw(random: np.random.Generator) -> Interval:
        chances = _chances(random, [better, worse, 1 - better - worse], clusters, correlation)
        numbers = _clusters(rows, clusters)
        place = random.random(rows)
        gains = place < chances[numbers, 0]
        losses = ~gains & (place < chances[numbers, 0] + chances[numbers, 1])
        same = (random.random(rows) < 0.7).astype(float)
        old = np.where(gains, 0.0, np.where(losses, 1.0, same))
        new = np.where(gains, 1.0, np.where(losses, 0.0, same))
        return paired_difference(new, old, numbers)

    truth = better - worse
    text = f"{better:g} better, {worse:g} worse"
    return Setting("difference of proportions", text, rows, clusters, correlation, truth, draw)


def mean_difference(rows: int, true: float, clusters: int, correlation: float) -> Setting:
    """Return a setting that compares scores from 0 to 1 on the same rows."""

    def draw(random: np.random.Generator) -> Interval:
        numbers = _clusters(rows, clusters)
        shared = random.random(rows)
        shift = 0.3 * math.sqrt(correlation) * random.normal(size=clusters)[numbers]
        own = 0.3 * math.sqrt(1 - correlation) * random.normal(size=rows)
        return paired_difference(np.round(shared + true + shift + own, 6), np.round(shared, 6), numbers)

    return Setting("difference of means", f"difference {true:g}", rows, clusters, correlation, true, draw)


def macro(rows: int, right: float, labels: Sequence[float], clusters: int, correlation: float) -> Setting:
    """Return a setting with labels of the given shares; a wrong answer is any other label, each as likely."""
    count = len(labels)
    cells = np.full((count, count), 0.0)
    for label, part in enumerate(labels):
        cells[label] = part * (1 - right) / (count - 1)
        cells[label, label] = part * right
    scale = 1_000_000
    whole = np.zeros((count + 1, count + 1), np.int64)
    whole[:count, :count] = np.rint(cells * scale)

    def draw(random: np.random.Generator) -> Interval:
        chances = _chances(random, cells.ravel().tolist(), clusters, correlation).cumsum(axis=1)
        numbers = _clusters(rows, clusters)
        cell = np.minimum((random.random(rows)[:, None] > chances[numbers]).sum(axis=1), count * count - 1)
        pairs = confusion(cell // count, cell % count, count)
        tables = pairs
        if clusters < rows:
            parts = [numbers == one for one in range(clusters)]
            tables = np.array([confusion(cell[part] // count, cell[part] % count, count) for part in parts])
        low, high = macro_f1_draws(tables, random.bytes(16), 1_000)
        return Interval(macro_f1(pairs), low, high, math.nan)

    text = f"{right:g} right, {count} labels"
    return Setting("macro F1", text, rows, clusters, correlation, macro_f1(whole), draw, 0.4)


SETTINGS = (
    share(50, 0.8, 50, 0),
    share(200, 0.5, 200, 0),
    share(200, 0.95, 200, 0),
    share(1_000, 0.99, 1_000, 0),
    share(200, 0.8, 40, 0.2),
    share(300, 0.7, 30, 0.3),
    share(600, 0.9, 200, 0.5),
    share(1_000, 0.8, 300, 0.1),
    mean(100, 0.6, 100, 0),
    mean(300, 0.7, 60, 0.2),
    mean(300, 0.5, 30, 0.3),
    difference(100, 0.08, 0.08, 100, 0),
    difference(200, 0.1, 0.05, 200, 0),
    difference(1_000, 0.03, 0.01, 1_000, 0),
    difference(300, 0.1, 0.05, 60, 0.2),
    difference(600, 0.08, 0.04, 200, 0.3),
    mean_difference(100, 0.05, 100, 0),
    mean_difference(300, 0.0, 40, 0.3),
    macro(200, 0.8, (0.5, 0.3, 0.2), 200, 0),
    macro(300, 0.7, (0.4, 0.4, 0.2), 60, 0.2),
)


def coverage(setting: Setting, draws: int, seed: int = 1) -> float:
    """Return the share of simulated intervals that contain the true value."""
    random = np.random.default_rng(seed)
    count = max(1, round(draws * setting.share_of_draws))
    found = (setting.draw(random) for _ in range(count))
    return sum(one.low <= setting.truth <= one.high for one in found) / count


def _clusters(rows: int, clusters: int) -> Ints:
    """Return cluster numbers of rows: sizes differ by at most one."""
    return (np.arange(rows) * clusters // rows).astype(np.int64)


def _chances(random: np.random.Generator, shares: Sequence[float], clusters: int, correlation: float) -> Floats:
    """Return each cluster's chances, [clusters, shares], with an intraclass correlation."""
    if not correlation:
        return np.tile(np.array(shares), (clusters, 1))
    weight = (1 - correlation) / correlation
    return np.asarray(random.dirichlet(np.array(shares) * weight, clusters), np.float64)


def main() -> None:
    """Print one line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    if options.markdown:
        print("| interval | setting | rows | clusters | correlation | coverage |\n|---|---|---|---|---|---|")
    for one in SETTINGS:
        found = coverage(one, options.draws)
        mark = "" if LOW <= found <= HIGH else " (!)" if options.markdown else "  outside 0.93 to 0.97"
        fields = (one.method, one.value, f"{one.rows:,}", f"{one.clusters:,}", f"{one.correlation:g}", f"{found:.3f}")
        line = f"| {' | '.join(fields)}{mark} |" if options.markdown else "  ".join(fields) + mark
        print(line, flush=True)


if __name__ == "__main__":
    main()
