"""Sorted records are read from their file between any two keys, a part at a time, and never from another file."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.errors import StoreError
from runner.state.results import ENTRY, KEY, ShardKeys, save_keys
from runner.state.sorted_file import FileHandleCache, SortedFile, save_sorted


def spread(chance: random.Random, count: int) -> list[bytes]:
    return [chance.randbytes(20) for _ in range(count)]


def crowded(chance: random.Random, count: int) -> list[bytes]:
    """Keys that no digests are: all begin alike, but for one."""
    return [b"\xf0" * 12 + chance.randbytes(8) for _ in range(count - 1)] + [b"\x01" * 20]


@pytest.mark.parametrize("dtype", [pytest.param(KEY, id="keys"), pytest.param(ENTRY, id="entries")])
@pytest.mark.parametrize("make", [spread, crowded])
@pytest.mark.parametrize("count", [1, 40, 3_000])
def test_any_range_is_the_slice_of_the_whole(tmp_path: Path, dtype: np.dtype[Any], make: Any, count: int) -> None:
    chance = random.Random(count)
    keys = np.sort(np.array(make(chance, count), KEY))
    records: Any = np.zeros(count, dtype)
    if dtype.names:
        records["key"], records["offset"] = keys, np.arange(count)
    else:
        records = keys
    saved = save_sorted(tmp_path / "a.npy", records)
    assert len(saved) == count
    assert saved.all().tolist() == records.tolist()
    marks = [b"\0" * 20, *sorted([*spread(chance, 30), *(bytes(key) for key in keys[::131])]), b"\xff" * 20]
    with FileHandleCache() as files:
        for lowest, after in zip([b"", *marks], [*marks, b""], strict=True):
            chosen = (keys >= np.bytes_(lowest)) & ((keys < np.bytes_(after)) | (not after))
            assert saved.between(files, lowest, after).tolist() == records[chosen].tolist()
        assert saved.between(files, b"", b"").tolist() == records.tolist()


def test_what_is_read_for_a_range_is_little_more_than_the_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = np.sort(np.array(spread(random.Random(1), 50_000), KEY))
    saved = save_keys(tmp_path / "a.npy", keys)
    sizes = []

    def counted(handle: int, size: int, offset: int, read: Any = os.pread) -> bytes:
        sizes.append(size)
        found: bytes = read(handle, size, offset)
        return found

    monkeypatch.setattr(os, "pread", counted)
    with FileHandleCache() as files:
        for first in range(0, 250, 10):
            assert len(saved.between(files, bytes([first]), bytes([first + 10]))) > 1_500
    assert len(sizes) == 25, "one read for each"
    assert max(sizes) < 4_500 * KEY.itemsize


def test_nothing_is_in_an_empty_file(tmp_path: Path) -> None:
    saved = save_sorted(tmp_path / "a.npy", np.zeros(0, ENTRY))
    with FileHandleCache() as files:
        assert len(saved.between(files, b"\x10", b"\x20")) == len(saved.between(files, b"", b"")) == len(saved) == 0


def test_a_file_that_took_the_place_of_another_is_not_read(tmp_path: Path) -> None:
    """Its records would be taken for the other's: keys would seem to be unanswered that are not."""
    path = tmp_path / "a.npy"
    saved = save_sorted(path, np.sort(np.array(spread(random.Random(1), 9), KEY)))
    save_sorted(path, np.sort(np.array(spread(random.Random(2), 9), KEY)))
    with FileHandleCache() as files, pytest.raises(StoreError, match=r"a\.npy was replaced while it was read"):
        saved.between(files, b"", b"\x10")
    with pytest.raises(StoreError, match="was replaced"):
        saved.all()
    path.unlink()
    with pytest.raises(StoreError, match=r"cannot read .*a\.npy"):
        saved.all()


def test_the_same_records_written_again_are_read_on(tmp_path: Path) -> None:
    """A plan beside an apply may fetch what the other has just fetched."""
    keys = np.sort(np.array(spread(random.Random(1), 9), KEY))
    saved = save_keys(tmp_path / "a.npy", keys)
    save_keys(tmp_path / "a.npy", keys)
    assert saved.all().tolist() == keys.tolist()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="cut short"),
        pytest.param(lambda data: data + b"\0", id="too long"),
        pytest.param(lambda data: data[:40], id="in its header"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"{}" * 200, id="something else"),
    ],
)
def test_a_damaged_file_of_keys_is_none(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "a.keys.npy"
    save_keys(path, np.sort(np.array(spread(random.Random(1), 9), KEY)))
    known = ShardKeys(tmp_path)
    assert known.load("a") is not None
    path.write_bytes(damage(path.read_bytes()))
    assert known.load("a") is None
    with pytest.raises(ValueError, match="."):
        SortedFile.open(path, KEY)


def test_records_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_keys(tmp_path / "a.npy", np.array([b"a"], KEY))
    with pytest.raises(ValueError, match="something else"):
        SortedFile.open(tmp_path / "a.npy", ENTRY)


def test_few_files_are_open_at_a_time(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(200)]
    for path in paths:
        path.write_text(path.name)
    with FileHandleCache() as files:
        handles = {files.handle(path) for path in paths}
        assert len(handles) <= 65
        assert [files.read(path, 0, 9).decode() for path in paths] == [path.name for path in paths]
