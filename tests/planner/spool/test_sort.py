"""Records by key: the order of groups and of records in them, whatever the sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runner.planner.spool.sort as module
from runner.base.sorted_keys import order_of
from runner.planner.spool.sort import ExternalSort

RECORD = np.dtype([("key", "S20"), ("row", "<u8")])
KEYS = st.lists(
    st.binary(min_size=20, max_size=20) | st.sampled_from([b"\0" * 20, b"a" * 20, b"\xff" * 20]), max_size=60
)


@pytest.fixture(scope="module", autouse=True)
def _small_runs() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RUN_RECORDS", 7)
        yield


@settings(max_examples=60, deadline=None)
@given(blocks=st.lists(KEYS, max_size=4))
def test_groups_hold_all_records_by_key(blocks: list[list[bytes]], tmp_path_factory: pytest.TempPathFactory) -> None:
    buckets = ExternalSort(tmp_path_factory.mktemp("buckets") / "file", RECORD)
    rows = 0
    expected = []
    for keys in blocks:
        records = np.empty(len(keys), RECORD)
        records["key"] = keys
        records["row"] = np.arange(rows, rows + len(keys))
        expected += list(zip(keys, range(rows, rows + len(keys)), strict=True))
        rows += len(keys)
        buckets.add(records)
    for _ in range(2):  # as often as wanted
        found: list[tuple[bytes, int]] = []
        end = b""
        for lowest, after, records in buckets.groups():
            assert lowest == end
            end = after
            for record in records[order_of(records["key"])]:
                key = bytes(record["key"]).ljust(20, b"\0")
                assert lowest <= key
                assert not after or key < after
                found.append((key, int(record["row"])))
        assert end == b""
        assert found == sorted(expected)


@given(tails=st.lists(st.binary(min_size=4, max_size=4), max_size=40))
def test_keys_that_begin_alike_are_sorted_by_all_their_bytes(tails: list[bytes]) -> None:
    keys = np.array([b"prefix--" + tail for tail in tails], "S12")
    assert order_of(keys).tolist() == np.argsort(keys, kind="stable").tolist()
