"""Statistics agree with scipy, statsmodels and scikit-learn, and with published values."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score, f1_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from bench.coverage import coverage, difference, mean, share
from runner.evaluation.statistics.agreement import (
    cluster_confusions,
    cohen_kappa,
    confusion,
    f1_scores,
    macro_f1,
    macro_f1_draws,
    pass_at_k,
)
from runner.evaluation.statistics.intervals import (
    bonett_price,
    cluster_se,
    design_effect,
    mean_interval,
    merged_clusters,
    paired_difference,
    proportion_interval,
    wilson,
)
from runner.evaluation.statistics.significance import assumed_se, holm, sign_flip_p, smallest_detectable
from runner.evaluation.statistics.student import t_cdf, t_quantile

CLOSE: dict[str, Any] = {"abs": 1e-9, "rel": 1e-9}


def singles(rows: int) -> np.ndarray:
    return np.arange(rows)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 29, 100, 999, 123_456])
@pytest.mark.parametrize("p", [0.001, 0.025, 0.3, 0.5, 0.6, 0.9, 0.975, 0.9995])
def test_students_t(freedom: int, p: float) -> None:
    assert t_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), **CLOSE)
    assert t_cdf(2 * p, freedom) == pytest.approx(stats.t.cdf(2 * p, freedom), **CLOSE)


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [
        pytest.param(81, 263, 0.2553, 0.3662, id="Newcombe 1998, table I (a)"),
        pytest.param(15, 148, 0.0624, 0.1605, id="Newcombe 1998, table I (b)"),
        pytest.param(0, 20, 0.0, 0.1611, id="Newcombe 1998, table I (c)"),
        pytest.param(1, 29, 0.0061, 0.1718, id="Newcombe 1998, table I (d)"),
    ],
)
def test_wilson_is_newcombes_method_3(right: int, rows: int, low: float, high: float) -> None:
    assert wilson(right / rows, rows) == pytest.approx((low, high), abs=5e-5)


@given(st.lists(st.booleans(), min_size=2, max_size=200))
@settings(max_examples=50)
def test_a_share_of_independent_rows(right: list[bool]) -> None:
    values = np.array(right, float)
    found = proportion_interval(values, singles(len(values)))
    low, high = proportion_confint(int(values.sum()), len(values), method="wilson")
    assert (found.low, found.high) == pytest.approx((max(low, 0), min(high, 1)), **CLOSE)


@given(st.lists(st.floats(0, 1).map(lambda x: round(x, 6)), min_size=2, max_size=60))
@settings(max_examples=50)
def test_a_mean_of_independent_rows(scores: list[float]) -> None:
    values = np.array(scores)
    found = mean_interval(values, singles(len(values)))
    half = stats.t.ppf(0.975, len(values) - 1) * (np.std(values, ddof=1) / math.sqrt(len(values)))
    assert found.high - found.value == pytest.approx(half, abs=1e-9)


def test_clustered_standard_error_is_that_of_cluster_sums() -> None:
    """Miller 2024: G/(G-1) x sum of squared cluster residual sums / n^2."""
    values, clusters = np.array([1, 0, 1, 1, 0, 0, 1.0]), np.array([0, 0, 1, 1, 1, 2, 2])
    residuals = [float(np.sum(values[clusters == g] - values.mean())) for g in range(3)]
    assert cluster_se(values, clusters) == pytest.approx(math.sqrt(3 / 2 * sum(r * r for r in residuals)) / 7, **CLOSE)


def test_doubled_rows_count_once() -> None:
    values = np.random.default_rng(1).integers(0, 2, 60).astype(float)
    once = proportion_interval(values, singles(60))
    twice = proportion_interval(np.repeat(values, 2), np.repeat(singles(60), 2))
    assert design_effect(np.repeat(values, 2), np.repeat(singles(60), 2)) == pytest.approx(2 * 60 / 59 * 119 / 120)
    assert twice.se == pytest.approx(once.se, **CLOSE)
    assert twice.low == pytest.approx(once.low, abs=0.01)


@pytest.mark.parametrize(
    ("values", "clusters", "low", "high"),
    [
        pytest.param([], [], math.nan, math.nan, id="no row"),
        pytest.param([1], [0], 0.206549, 1.0, id="one row"),
        pytest.param([1, 0, 1], [0, 0, 0], 0.0, 1.0, id="one cluster"),
        pytest.param([1] * 10, range(10), 0.722467, 1.0, id="all right"),
        pytest.param([0] * 10, range(10), 0.0, 0.277533, id="all wrong"),
    ],
)
def test_edges_of_a_share(values: list[int], clusters: list[int], low: float, high: float) -> None:
    found = proportion_interval(np.array(values, float), np.array(clusters, np.int64))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6, nan_ok=True)


def test_all_right_in_few_clusters_is_known_less_well() -> None:
    few = proportion_interval(np.ones(40), np.repeat(singles(4), 10))
    many = proportion_interval(np.ones(40), singles(40))
    assert few.low < many.low


@pytest.mark.parametrize(("better", "worse"), [(3, 9), (0, 5), (4, 4), (1, 0), (12, 1), (40, 25)])
def test_sign_flips_of_single_rows_are_mcnemars_mid_p(better: int, worse: int) -> None:
    """Fagerland, Lydersen and Laake 2013: the exact conditional p value less half the observed probability."""
    new = np.r_[np.ones(better), np.zeros(worse), np.ones(5)]
    old = np.r_[np.zeros(better), np.ones(worse), np.ones(5)]
    n, least = better + worse, min(better, worse)
    expected = 2 * stats.binom.cdf(least, n, 0.5) - stats.binom.pmf(least, n, 0.5)
    expected = expected if better != worse else 1 - stats.binom.pmf(least, n, 0.5) / 2
    assert sign_flip_p(new, old, singles(n + 5)) == pytest.approx(expected, **CLOSE)


def test_fagerlands_example() -> None:
    """Bentur et al. 2009, as analysed by Fagerland et al. 2013: 1 and 7 discordant pairs, mid-p 0.0391."""
    new, old = np.r_[np.ones(1), np.zeros(7), np.ones(13)], np.r_[np.zeros(1), np.ones(7), np.ones(13)]
    assert sign_flip_p(new, old, singles(21)) == pytest.approx(0.0391, abs=5e-5)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
@settings(max_examples=40)
def test_sign_flips_are_all_sign_flips(quarters: list[int]) -> None:
    sums = np.array(quarters) / 4
    totals = [abs(sum(s * f for s, f in zip(sums, flips, strict=True))) for flips in product((1, -1), repeat=len(sums))]
    observed = abs(sums.sum())
    beyond = sum(t > observed + 1e-9 for t in totals) + sum(abs(t - observed) < 1e-9 for t in totals) / 2
    expected = beyond / len(totals) if any(quarters) else 1.0
    assert sign_flip_p(sums, np.zeros(len(sums)), singles(len(sums))) == pytest.approx(expected, **CLOSE)


def test_many_rows_use_the_normal_approximation() -> None:
    random = np.random.default_rng(3)
    new, old = (random.random(50_000) < 0.61).astype(float), (random.random(50_000) < 0.6).astype(float)
    better, worse = int(np.sum(new > old)), int(np.sum(new < old))
    z = (better - worse) / math.sqrt(better + worse)
    assert sign_flip_p(new, old, singles(50_000)) == pytest.approx(2 * stats.norm.sf(abs(z)), **CLOSE)


def test_bonett_price() -> None:
    """Bonett and Price 2012: one is added to each discordant count, two to the pairs."""
    gain, loss = 13 / 102, 5 / 102
    half = stats.norm.ppf(0.975) * math.sqrt((gain + loss - (gain - loss) ** 2) / 102)
    assert bonett_price(12, 4, 100) == pytest.approx((gain - loss - half, gain - loss + half), **CLOSE)
    new = np.r_[np.ones(12), np.zeros(4), np.ones(84)]
    old = np.r_[np.zeros(12), np.ones(4), np.ones(84)]
    found = paired_difference(new, old, singles(100))
    assert (found.value, found.low) == pytest.approx((0.08, gain - loss - half), **CLOSE)


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12))
@settings(max_examples=40)
def test_holm(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]), **CLOSE)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=80))
@settings(max_examples=40)
def test_labels(pairs: list[tuple[int, int]]) -> None:
    """Label 4 is one outside the list; labels that never occur count as 0."""
    expected, found = (np.array(side) for side in zip(*pairs, strict=True))
    counts = confusion(expected, found, 4)
    reference = f1_score(expected, found, labels=range(4), average=None, zero_division=0)
    assert f1_scores(counts) == pytest.approx(list(reference), **CLOSE)
    assert macro_f1(counts) == pytest.approx(float(np.mean(reference)), **CLOSE)
    if len({*expected, *found}) > 1:
        assert cohen_kappa(counts) == pytest.approx(cohen_kappa_score(expected, found), nan_ok=True, **CLOSE)


@pytest.mark.parametrize(
    ("tried", "right", "k", "chance"), [(10, 3, 1, 0.3), (10, 3, 5, 1 - 21 / 252), (5, 0, 3, 0.0), (5, 3, 3, 1.0)]
)
def test_pass_at_k(tried: int, right: int, k: int, chance: float) -> None:
    """Chen et al. 2021, equation 1: 1 - C(n-c, k) / C(n, k)."""
    assert pass_at_k(tried, right, k) == pytest.approx(chance, **CLOSE)


def test_too_few_tries_are_refused() -> None:
    with pytest.raises(ValueError, match="pass@3 needs at least 3 replicates"):
        pass_at_k(2, 1, 3)


def test_clusters_that_share_a_row_are_one() -> None:
    assert merged_clusters(np.array([0, 1, 2, 3, 1]), np.array([5, 5, 6, 7, 7])).tolist() == [0, 0, 1, 0, 0]


def test_bootstrap_draws_are_the_same_each_time() -> None:
    counts = confusion(np.array([0, 0, 1, 1, 2] * 20), np.array([0, 1, 1, 1, 2] * 20), 3)
    first, again = macro_f1_draws(counts, b"seed", 500), macro_f1_draws(counts, b"seed", 500)
    assert first == again
    assert first[0] < macro_f1(counts) < first[1]
    assert macro_f1_draws([counts] * 8, b"seed", 200) == pytest.approx((macro_f1(counts), macro_f1(counts)))


def test_the_smallest_detectable_difference() -> None:
    assert smallest_detectable(assumed_se(400)) == pytest.approx(2.8 * math.sqrt(0.1 / 400))


def test_confusion_counts_of_clusters() -> None:
    random = np.random.default_rng(5)
    expected, found = random.integers(-1, 4, 200), random.integers(-1, 5, 200)
    clusters = np.unique(random.integers(0, 60, 200), return_inverse=True)[1].astype(np.int64)
    whole = [confusion(expected[clusters == one], found[clusters == one], 3) for one in range(clusters.max() + 1)]
    assert np.array_equal(cluster_confusions(expected, found, 3, clusters), np.array(whole))


def test_clusters_that_share_a_row_are_joined() -> None:
    chain = np.array([0, 0, 1, 1, 2, 2, 3]), np.array([9, 8, 8, 7, 7, 6, 5])
    assert merged_clusters(*chain).tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert merged_clusters(np.arange(4), np.array([1, 0, 1, 2])).tolist() == [0, 1, 0, 2]


def test_simulated_coverage_of_three_settings() -> None:
    simulated = (share(200, 0.8, 40, 0.2), mean(300, 0.5, 30, 0.3), difference(300, 0.1, 0.05, 60, 0.2))
    for setting in simulated:
        assert 0.92 <= coverage(setting, 600) <= 0.98, setting
