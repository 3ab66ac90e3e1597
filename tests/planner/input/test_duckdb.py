"""`input.sql`: one SELECT over the project's own files, and nothing else; its values are JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.planner.render import first_requests
from tests.planner.input.test_source import CSV, load, rows
from tests.sampling import sampled

Write = Callable[..., Path]


def test_sql_filters_and_joins(project: Write) -> None:
    query = (
        "SELECT a.id, a.text, b.lang FROM 'data/a.csv' a JOIN 'data/b.jsonl' b USING (id) WHERE a.id > 1 ORDER BY a.id"
    )
    found = rows(
        project, f'{{id: id, sql: "{query}"}}', data__a_DOT_csv=CSV, data__b_DOT_jsonl=b'{"id": 2, "lang": "de"}\n'
    )
    assert found == [(2, {"id": 2, "text": "zwei, drei", "lang": "de"})]


@pytest.mark.parametrize(
    ("query", "says"),
    sampled(
        [
            pytest.param("SELECT * FROM read_text('/etc/hostname')", "files of the project only", id="a file outside"),
            pytest.param("SELECT * FROM read_text('data/../../x')", "files of the project only", id="a way out"),
            pytest.param("SELECT * FROM read_text('data/link')", "files of the project only", id="a symlink out"),
            pytest.param("SELECT * FROM read_text('.git/config')", "files of the project only", id="git's own"),
            pytest.param("SELECT * FROM read_text('.env')", "files of the project only", id="a hidden file"),
            pytest.param(
                "SELECT * FROM read_text('data/.env')", "files of the project only", id="a hidden file, deeper"
            ),
            pytest.param("SELECT * FROM read_text('data/*')", "files of the project only", id="a hidden file, by glob"),
            pytest.param(
                "SELECT * FROM read_text('data/.env*')", "files of the project only", id="a hidden file alone"
            ),
            pytest.param(
                "SELECT * FROM read_text('sub/.git/config')", "files of the project only", id="git's own, deeper"
            ),
            pytest.param(
                "SELECT * FROM read_text('data/etc/hostname')", "files of the project only", id="below a symlink"
            ),
            pytest.param("SELECT * FROM glob('data/etc/*')", "files of the project only", id="names below a symlink"),
            pytest.param("SELECT * FROM glob('..')", "files of the project only", id="the folder above"),
            pytest.param("SELECT * FROM glob('../*')", "files of the project only", id="names above"),
            pytest.param("SELECT * FROM glob('/*')", "files of the project only", id="names outside"),
            pytest.param("SELECT * FROM read_csv('/etc/passwd')", "files of the project only", id="csv outside"),
            pytest.param("SELECT * FROM read_blob('/etc/passwd')", "files of the project only", id="bytes outside"),
            pytest.param("SELECT * FROM sniff_csv('/etc/passwd')", "files of the project only", id="a look outside"),
            pytest.param("SELECT * FROM parquet_metadata('/etc/passwd')", "files of the project only", id="metadata"),
            pytest.param(
                "SELECT * FROM read_text('/proc/self/environ')", "files of the project only", id="its process"
            ),
            pytest.param("SELECT * FROM read_text('file:///etc/passwd')", "files of the project only", id="a file URL"),
            pytest.param("SELECT * FROM read_csv('s3://a/b.csv')", "files of the project only", id="a bucket"),
            pytest.param("SELECT * FROM read_text('data/pipe')", "files of the project only", id="a pipe"),
            pytest.param("SELECT * FROM query('DROP TABLE x')", "single SELECT", id="another kind, in a query"),
            pytest.param("PRAGMA database_list", "must be one SELECT", id="pragma"),
            pytest.param("CALL pragma_version()", "must be one SELECT", id="call"),
            pytest.param("LOAD httpfs", "must be one SELECT", id="load"),
            pytest.param("EXPORT DATABASE 'data/x'", "must be one SELECT", id="export"),
            pytest.param("-- nothing", "must be one SELECT", id="nothing"),
            pytest.param("SELECT * FROM sqlite_scan('x', 'y')", "sqlite_scanner extension", id="an extension"),
            pytest.param("SELECT repeat('x', 3900000000) AS x", "emory", id="memory"),
            pytest.param("SELECT repeat('x', 70000000) AS x", "row 1 is longer than 67108864 bytes", id="a huge row"),
            pytest.param(
                "SELECT * FROM 'https://example.com/a.parquet'", "files of the project only", id="the network"
            ),
            pytest.param("COPY (SELECT 1) TO 'data/x.csv'", "must be one SELECT", id="writing"),
            pytest.param("SELECT 1; SELECT 2", "must be one SELECT", id="two statements"),
            pytest.param("SET enable_external_access=true", "must be one SELECT", id="settings"),
            pytest.param("ATTACH 'data/x.db'", "must be one SELECT", id="attach"),
            pytest.param("INSTALL httpfs", "must be one SELECT", id="install"),
            pytest.param("SELECT getenv('MODEL_ACCESS_KEY')", "getenv does not exist", id="the environment"),
            pytest.param("SELECT 1 AS a, 2 AS a", "the column a twice", id="a column twice"),
            pytest.param("SELECT 1 AS id, 'nan'::DOUBLE AS x", "row 1, column x: JSON has no NaN", id="NaN"),
            pytest.param("SELECT 1 AS id, 'a'::BLOB AS x", "row 1, column x: binary data", id="binary"),
            pytest.param("SELECT 1 AS id, 99999999999999999999::HUGEINT AS x", "beyond 64 bits", id="a huge number"),
            pytest.param("SELECT 1 AS id FROM 'data/no.csv'", "there is no file data/no.csv", id="no such file"),
            pytest.param("SELEC 1", "syntax error", id="syntax"),
        ],
        14,
    ),
)
def test_a_query_is_locked_in(project: Write, query: str, says: str) -> None:
    hidden = {".git/config": "token", ".env": "KEY=x", "data/.env": "KEY=x", "sub/.git/config": "token"}
    root = project({**hidden, "data/rows.jsonl": "{}"})
    (root / "data/link").symlink_to("/etc/hostname")
    (root / "data/etc").symlink_to("/etc")
    os.mkfifo(root / "data/pipe")
    before = sorted((root / "data").iterdir())
    with pytest.raises(InputError) as caught:
        rows(project, f'{{id: id, sql: "{query}"}}')
    assert says in str(caught.value)
    assert "specs/hello.yaml:4:" in str(caught.value)
    assert sorted((root / "data").iterdir()) == before


def test_a_query_reads_what_stands_beside_hidden_files(project: Write) -> None:
    """By name and by pattern, from the folder itself and from one below."""
    files = {"data/.env": "KEY=x", "data/.DS_Store": b"\0", "data/in/.DS_Store": b"\0", "data/in/b.csv": "id\n2\n"}
    for source in ("'data/a.csv'", "'data/*.csv'", "'./data/a*.csv'", "read_csv('data/?.csv')", "'data/in/*.csv'"):
        loaded = load(project, f'{{id: id, sql: "SELECT id FROM {source}"}}', {"data/a.csv": "id\n2\n", **files})
        assert [identity for identity, _ in first_requests(loaded.jobs[0], loaded.root, 10)] == [b"2"]


def test_a_query_that_takes_long_has_no_progress_bar(project: Write) -> None:
    """DuckDB would write it to where the rows go, after two seconds."""
    query = "SELECT current_setting('enable_progress_bar')::VARCHAR AS id"
    assert rows(project, f'{{id: id, sql: "{query}"}}')[0][0] == "false"


def test_values_of_sql_are_json(project: Write) -> None:
    query = (
        "SELECT 1 AS id, 2.50::DECIMAL(5,2) AS d, TIMESTAMP '2026-11-23 10:00:00' AS t, {'a': [1, NULL]} AS s, "
        "MAP {'k': 1} AS m, true AS b, 18446744073709551615::UBIGINT AS u"
    )
    [(_, row)] = rows(project, f'{{id: id, sql: "{query}"}}')
    assert row == {"id": 1, "d": 2.5, "t": "2026-11-23T10:00:00", "s": {"a": [1, None]}, "m": {"k": 1}, "b": True, "u": (1 << 64) - 1}  # fmt: skip


WITHOUT = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name == "duckdb" else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
sys.argv = ["batchspec", "plan", "--provider", "local", "--offline"]
from runner.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("{id: id, sql: SELECT 1 AS id}", "an `input.sql` needs DuckDB", id="sql"),
        pytest.param("{id: id, path: data/a.parquet}", "parquet needs DuckDB", id="parquet"),
    ],
)
def test_without_duckdb_it_says_what_to_install(project: Write, source: str, says: str) -> None:
    """In a process of its own that can't import it, as on a machine where it is not installed."""
    root = load(project, source, {"data/a.parquet": b"PAR1"}).root
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=root, capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told
    assert f"{says} (pip install 'batchspec[duckdb]')" in told
    assert "specs/hello.yaml:4:" in told
    assert "Traceback" not in told
