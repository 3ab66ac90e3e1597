"""A small sample of the soak, by a fixed seed; `make soak` is the whole of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.soak import soak


@pytest.mark.slow
def test_a_sample_of_the_soak_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Kills, clients that leave and faults: every request has exactly one answer or one error in the end."""
    report = soak(25, seed=3, seconds=120, data=tmp_path / "data", clients=6)
    assert report.jobs >= 25
    assert report.kills >= 2
