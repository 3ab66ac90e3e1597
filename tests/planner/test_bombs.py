"""Inputs, patterns and queries of an untrusted checkout that would take for ever, or fill memory or disk, at plan."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from runner.errors import InputError, SpecError, TrustError
from runner.jobspec.loader import JobSpec, load_project
from runner.planner.input import globs
from runner.planner.input.duckdb_client import TimeLimit
from runner.planner.input.limits import Limits, limits_of
from runner.planner.input.source import read_chunks
from runner.planner.input.streams import InputFiles
from runner.planner.render import render_job
from tests.conftest import REPOSITORY, SPEC
from tests.sampling import sampled

Write = Callable[..., Path]


def load(root: Path, source: str) -> JobSpec:
    (root / "specs/job.yaml").write_text(SPEC.replace("{path: data/rows.jsonl, id: id}", source))
    return load_project(root, [root / "specs/job.yaml"], variables={}, provider=None, environ={}).jobs[0]


SECONDS = 30
"""What counts as for ever; each takes much less than one second."""


@pytest.fixture(autouse=True)
def _ends() -> object:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("**/" * 40 + "*.jsonl", id="folders of any depth, 40 times"),
        pytest.param("**/a/" * 20 + "*.jsonl", id="a name between each"),
        pytest.param("*/" * 40 + "*.jsonl", id="links that lead back"),
        pytest.param("**/" + "*a" * 100 + "b.jsonl", id="stars in a name"),
    ],
)
def test_a_glob_takes_the_time_of_one_walk(tmp_path: Path, pattern: str) -> None:
    deep = tmp_path.joinpath(*["a"] * 60)
    deep.mkdir(parents=True)
    (tmp_path / "rows.jsonl").write_text("")
    for name in ("b", "c"):
        (tmp_path / name).symlink_to(".")
    with contextlib.suppress(globs.PatternTooBroad):
        globs.find(tmp_path, pattern, entries=20_000)


@pytest.mark.parametrize(
    "pattern",
    ["*.jsonl", "data/*.jsonl", "**/*.jsonl", "data/**/*.jsonl", "d*/**/x?.jsonl", "**/**/x1.jsonl", "*/sub/*", "data/[xy]1.*",
     "data/sub/../*.jsonl", "**/sub/**/x1.jsonl", "link/*.jsonl", "*/x1.jsonl", "**", "data/**", "none/*", ".hidden/*", "*/*/*"],
)  # fmt: skip
def test_a_glob_finds_what_pathlib_finds(tmp_path: Path, pattern: str) -> None:
    for name in ("x1.jsonl", "data/x1.jsonl", "data/y1.jsonl", "data/sub/x1.jsonl", "data/sub/more/x1.jsonl", "other/x.csv",
                 ".hidden/x1.jsonl", "data/.x1.jsonl"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to("data")
    wanted = sorted({path.relative_to(tmp_path) for path in tmp_path.glob(pattern) if path.is_file()})
    assert globs.find(tmp_path, pattern) == wanted


def packed(suffix: str, size: int) -> bytes:
    row = b'{"id": 1, "text": "' + b"x" * size + b'"}\n'
    return gzip.compress(row) if suffix == "gz" else zstandard.compress(row)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize(
    ("limits", "variable"),
    [
        pytest.param(Limits(input_bytes=100_000), "BATCHSPEC_INPUT_BYTES", id="in bytes"),
        pytest.param(Limits(free_bytes=100_000), "BATCHSPEC_INPUT_RATIO", id="in times its size"),
    ],
)
def test_a_compressed_input_unpacks_to_a_bounded_size(
    project: Write, suffix: str, limits: Limits, variable: str
) -> None:
    root = project({f"data/rows.jsonl.{suffix}": packed(suffix, 3_000_000)})
    spec = load(root, f"{{path: data/rows.jsonl.{suffix}, id: id}}")
    with pytest.raises(InputError, match="unpacks to more than") as caught:
        list(read_chunks(root, spec, InputFiles(limits=limits)))
    assert variable in str(caught.value)
    assert list(read_chunks(root, spec, InputFiles()))


def test_the_files_of_one_input_are_counted_together(project: Write) -> None:
    root = project({f"data/{n}.jsonl.gz": packed("gz", 30_000) for n in range(5)})
    with pytest.raises(InputError, match="unpacks to more than 100000 bytes"):
        list(read_chunks(root, load(root, "{path: data/*.gz, id: id}"), InputFiles(limits=Limits(input_bytes=100_000))))


def test_parquet_and_queries_count_too(project: Write) -> None:
    import duckdb

    root = project()
    duckdb.sql(f"COPY (SELECT i AS id, repeat('x', 1000) AS text FROM range(3000) t(i)) TO '{root}/data/a.parquet'")
    for source in ("path: data/a.parquet", "sql: \"SELECT i AS id, repeat('x', 1000) AS text FROM range(3000) t(i)\""):
        with pytest.raises(InputError, match="unpacks to more than"):
            list(read_chunks(root, load(root, f"{{{source}, id: id}}"), InputFiles(limits=Limits(input_bytes=100_000))))


@pytest.mark.parametrize(
    "query",
    sampled([
        pytest.param("SELECT count(*) AS id FROM range(100000000) a, range(100000000) b WHERE a.range + b.range < 0", id="none"),
        pytest.param("SELECT 1 AS id FROM range(100000000) a, range(100000000) b WHERE a.range * 0.5 < -1", id="no rows"),
        pytest.param("WITH RECURSIVE t(id) AS (SELECT 1 UNION ALL SELECT id FROM t) SELECT max(id) AS id FROM t", id="without end"),
    ], 1),
)  # fmt: skip
def test_a_query_without_an_end_is_ended(project: Write, query: str) -> None:
    root = project()
    spec = load(root, f'{{sql: "{query}", id: id}}')
    with pytest.raises(InputError, match=r"took more than 1 s|unpacks to more than") as caught:
        list(read_chunks(root, spec, InputFiles(limits=Limits(sql_seconds=1, free_bytes=1_000_000))))
    assert "BATCHSPEC_" in str(caught.value)


def test_time_that_others_take_for_rows_is_not_the_querys() -> None:
    with subprocess.Popen(["sleep", "30"]) as process:
        time_limit = TimeLimit(process, 0.5)
        for _ in range(3):
            with time_limit:
                pass
            time.sleep(0.3)
        assert (process.poll(), time_limit.expired) == (None, False)
        with time_limit:
            process.wait()
        assert time_limit.expired


def test_requests_that_would_fill_the_disk_are_an_error(
    project: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHSPEC_INPUT_BYTES", "1000000")
    root = project()
    (root / "specs/job.yaml").write_text(SPEC.replace("Say {{ text }}.", "{{ 'x' * 900000 }}"))
    (scratch := tmp_path / "scratch").mkdir()
    [spec] = load_project(root, [root / "specs/job.yaml"], variables={}, provider=None, environ={}).jobs
    with pytest.raises(SpecError, match="exceed 2700"):
        render_job(spec, root, scratch)


@pytest.mark.parametrize("name", ["BATCHSPEC_INPUT_BYTES", "BATCHSPEC_INPUT_RATIO", "BATCHSPEC_SQL_SECONDS"])
def test_limits_are_whole_numbers(name: str) -> None:
    assert limits_of({}) == Limits()
    assert limits_of({name: "7"}) != Limits()
    for wrong in ("0", "-1", "1.5", "many", "9" * 30):
        with pytest.raises(TrustError, match=name):
            limits_of({name: wrong})


CONFINED = """
import os, resource, sys
from runner.planner.confine import confine
confine(memory=1 << 30, file_bytes=1000, seconds=50)
import ctypes, socket, subprocess
def denied(what):
    try:
        what()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "allowed"
def raw():  # not through Python's own modules
    library = ctypes.CDLL(None, use_errno=True)
    if library.socket(2, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "socket")
def written():
    with open(sys.argv[1], "wb", buffering=0) as file:
        file.write(b"x" * 900)
        file.write(b"x" * 900)
        assert os.fstat(file.fileno()).st_size <= 1000
        raise OSError
print(denied(lambda: socket.create_connection(("127.0.0.1", 9), 1)), denied(lambda: subprocess.run(["true"])), denied(raw),
      denied(written), denied(lambda: bytearray(2 << 30)), resource.getrlimit(resource.RLIMIT_CORE)[0],
      resource.getrlimit(resource.RLIMIT_CPU)[0])
"""


def test_a_confined_process_has_no_network_no_programs_and_little_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, tmp_path / "file"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    connected, started, raw, written, held, core, seconds = done.stdout.split()
    assert (connected, started) == ("PermissionError", "PermissionError")
    assert raw == (
        "PermissionError" if sys.platform == "linux" and os.uname().machine in {"x86_64", "aarch64"} else raw
    )
    assert (written, held) == ("OSError", "MemoryError" if sys.platform == "linux" else held)
    assert (core, seconds) == ("0", "50")


def test_child_processes_get_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.planner.confine import environment

    for name in ("MODEL_ACCESS_KEY", "BATCHSPEC_WEBHOOK_SECRET", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in environment().values()
