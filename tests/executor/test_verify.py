"""`verify` names the row that differs, in every output format."""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
import zstandard

from runner.api import load, open_project
from runner.operations.verify import verify
from tests.executor.conftest import Team
from tests.executor.reconciling import Make
from tests.sampling import sampled


def test_verify_names_the_first_row_that_differs(team: Make) -> None:
    one = team()
    one.apply()
    path = one.root / "out/job.jsonl"
    path.write_text(path.read_text().replace("Say two.", "Say too."))
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ={}) as opened:
        [prepared], _ = opened.prepare(project.jobs)
        found = verify(opened.context, prepared)
    assert any("line 2: row 2: text" in text for text in found.wrong)
    assert found.right == ("the recorded requests are rendered from 3 rows",)


def edited_parquet(data: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.parquet"
        path.write_bytes(data)
        query = f"select * replace (replace(text, 'two', 'too') as text) from read_parquet('{path}')"
        duckdb.sql(f"copy ({query}) to '{folder}/y.parquet' (format parquet)")
        return (Path(folder) / "y.parquet").read_bytes()


def edited(data: bytes) -> bytes:
    return data.replace(b"Say two.", b"Say too.")


@pytest.mark.parametrize(
    ("name", "edit"),
    sampled(
        [
            ("job.csv", edited),
            ("job.csv.gz", lambda data: gzip.compress(edited(gzip.decompress(data)))),
            ("job.jsonl.gz", lambda data: gzip.compress(edited(gzip.decompress(data)))),
            ("job.jsonl.zst", lambda data: zstandard.compress(edited(zstandard.open(io.BytesIO(data)).read()))),
            ("job.parquet", edited_parquet),
        ],
        1,
    ),
    ids=["csv", "csv.gz", "jsonl.gz", "jsonl.zst", "parquet"],
)
def test_verify_names_the_row_in_every_format(team: Make, name: str, edit: Callable[[bytes], bytes]) -> None:
    one = team()
    spec = (one.root / "specs/job.yaml").read_text()
    one.write("specs/job.yaml", spec.replace("out/job.jsonl", f"out/{name}"))
    one.apply()
    path = one.root / f"out/{name}"
    assert verified(one) == ()
    path.write_bytes(edit(path.read_bytes()))
    [wrong] = verified(one)
    assert "the first row that differs is " in wrong
    assert "2: row 2: text" in wrong
    path.write_bytes(path.read_bytes()[:-9])
    [wrong] = verified(one)
    assert "differs from the lockfile" in wrong


def verified(one: Team) -> tuple[str, ...]:
    """What verify finds wrong, offline."""
    project = load(root=one.root, environ=one.environ)
    with open_project(project, environ={}) as opened:
        [prepared], _ = opened.prepare(project.jobs)
        return verify(opened.context, prepared).wrong
