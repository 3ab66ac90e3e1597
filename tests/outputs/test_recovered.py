"""Recovered answers, by request key."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.outputs.recovered import write_recovered
from runner.state.lockfile_lines import OutputLine

NAME = "out/a.jsonl.recovered.jsonl"


def _line(data: bytes) -> OutputLine:
    return OutputLine(output=NAME, job="job", digest=hashlib.sha256(data).hexdigest(), rows=1, batches=("lost",))


def test_answers_stay_when_their_batch_lost_its_results(tmp_path: Path) -> None:
    data = b'{"text":"one","batch":"lost"}\n'
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    line = write_recovered(path, NAME, "job", {}, 2, _line(data))
    assert path.read_bytes() == data
    assert (line.batches, line.rows, line.digest) == (("lost",), 1, _line(data).digest)


@pytest.mark.parametrize("data", [b"no json\n", b"[]\n", b"{}\n"])
def test_a_damaged_file_stays(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"a\.jsonl is damaged"):
        write_recovered(path, NAME, "job", {}, 2, _line(data))
    assert path.read_bytes() == data
