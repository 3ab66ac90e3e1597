"""A sample of many cases for `make test`; the rest of them run in `make test-slow`."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest


def sampled(cases: Iterable[Any], keep: int) -> list[Any]:
    """Return all cases as parameters. All but `keep` of them, chosen by a fixed seed, are marked `slow`."""
    cases = list(cases)
    kept = set(random.Random(0).sample(range(len(cases)), min(keep, len(cases))))
    return [case if number in kept else _slow(case) for number, case in enumerate(cases)]


def chosen(cases: Iterable[Any], *names: Any) -> list[Any]:
    """Return all cases as parameters. All but those equal to one of `names` are marked `slow`."""
    cases = list(cases)
    assert set(names) <= set(cases), "these are no cases"
    return [case if case in names else _slow(case) for case in cases]


def _slow(case: Any) -> Any:
    if isinstance(case, type(pytest.param())):
        return pytest.param(*case.values, id=case.id, marks=(*case.marks, pytest.mark.slow))
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
