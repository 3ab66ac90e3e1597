"""Student's t distribution. SciPy would cost five times NumPy's import time."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300
_PRECISION = 1e-16
_LARGE = 1e7
"""Degrees of freedom from which t and the normal distribution differ by less than 1e-7 standard errors."""


def t_cdf(t: float, freedom: float) -> float:
    """Return P(T <= t) for `freedom` degrees of freedom."""
    if freedom >= _LARGE:
        return _NORMAL.cdf(t)
    tail = 0.5 * _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return 1 - tail if t > 0 else tail


@functools.lru_cache(maxsize=1_000)
def t_quantile(p: float, freedom: float) -> float:
    """Return t with P(T <= t) = p, for 0 < p < 1 and `freedom` from 1 to infinity."""
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, freedom)
    z = _NORMAL.inv_cdf(p)
    if freedom >= _LARGE:
        return z
    low, high = 0.0, max(2.0, 2 * z)
    while t_cdf(high, freedom) < p:
        low, high = high, 2 * high
    t = min(max(z * (1 + (z * z + 1) / (4 * freedom)), low), high)
    for _ in range(200):
        error = t_cdf(t, freedom) - p
        low, high = (t, high) if error < 0 else (low, t)
        step = t - error / _t_density(t, freedom)
        closer = step if low < step < high else (low + high) / 2
        if abs(closer - t) <= _PRECISION * max(1.0, t):
            return closer
        t = closer
    return t


def normal_two_sided(z: float) -> float:
    """Return P(|Z| >= |z|) of the standard normal distribution."""
    return math.erfc(abs(z) / math.sqrt(2))


def _t_density(t: float, freedom: float) -> float:
    log = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    return math.exp(log - (freedom + 1) / 2 * math.log1p(t * t / freedom))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log) * _beta_fraction(a, b, x) / a
    return 1 - math.exp(log) * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Evaluate its continued fraction by Lentz's method (DLMF 8.17.22)."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, 10_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + numerator * d)
            c = _not_zero(1 + numerator / c)
            result *= c * d
        if abs(c * d - 1) < _PRECISION * 10:
            break
    return result


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
