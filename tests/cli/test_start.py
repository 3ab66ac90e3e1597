"""Starting from one's own rows, looking at requests, and completion for the shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli.options import complete_jobs, complete_specs
from tests.conftest import SPEC

Write = Callable[..., Path]


def batchspec(root: Path, *arguments: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=root, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


DATA = {
    "my-reviews.csv": b"stars,Review ID,my text,class\n5,r1,good,a\n5,r2,bad,a\n",
    "rows.jsonl": b'{"n": 1, "question": "Why?"}\n{"n": 1, "question": "When?"}\n{"n": 1, "question": "Why?"}\n',
    "list.json": b'[{"id": 1, "vars": "x{{ y }}", "deep": {"a": 1}}]',
    "x.tsv": b"on\tkey\n1\tyes\n",
}


@pytest.mark.parametrize("name", DATA)
def test_from_rows_to_answers_in_three_commands(tmp_path: Path, name: str) -> None:
    root = tmp_path / "mine"
    (root / "data").mkdir(parents=True)
    (root / "data" / name).write_bytes(DATA[name])
    batchspec(root, "init", "--from", f"data/{name}")
    assert " to submit, 0 reused" in batchspec(root, "plan", "--provider", "local")
    batchspec(root, "apply", "--provider", "local", "--yes")
    [output] = (root / ".batchspec/realms/local/out").glob("*.jsonl")
    assert (
        len(output.read_text().splitlines()) == {"my-reviews.csv": 2, "rows.jsonl": 3, "list.json": 1, "x.tsv": 1}[name]
    )


def test_the_id_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(DATA["my-reviews.csv"])
    told = batchspec(tmp_path, "init", "--from", "a.csv")
    assert "4 columns, `Review ID` is the id" in told
    assert '  id: "Review ID"\n' in (tmp_path / "specs/a.yaml").read_text()
    template = (tmp_path / "templates/a.j2").read_text()
    assert 'my text: {{ row["my text"] }}\nclass: {{ row["class"] }}\n' in template


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"a,b\n", "has no rows", id="no rows"),
        pytest.param(b"a,b\n1\n", "1 field where the header has 2", id="ragged"),
    ],
)
def test_rows_that_can_not_be_read_are_told(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    assert says in batchspec(tmp_path, "init", "--from", "a.csv", expect=1)
    outside = tmp_path / "sub"
    outside.mkdir()
    assert "Copy it there" in batchspec(outside, "init", "--from", "../a.csv", expect=1)


def test_render_shows_one_row(project: Write) -> None:
    root = project()
    shown = batchspec(root, "render", "--row", "2")
    assert '"content":"Say two."' in shown
    assert shown.count("\n") == 1
    assert "there is no row 9" in batchspec(root, "render", "--row", "9", expect=1)


def test_render_shows_what_a_commit_asked(project: Write) -> None:
    root = project()
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    assert "0 of the first 3 rows ask something else than at HEAD" in batchspec(root, "render", "--diff", "HEAD")
    spec = root / "specs/hello.yaml"
    spec.write_text(
        SPEC.replace("Say {{ text }}.", "Please say {{ text }}.").replace("temperature: 0", "temperature: 1")
    )
    told = batchspec(root, "render", "--diff", "HEAD", "-n", "1")
    assert "# hello, row 1\n Be brief.\n \n-Say one.\n+Please say one.\n  temperature: 0 -> 1\n" in told
    assert "3 of the first 3 rows ask something else than at HEAD" in told
    assert "git knows no commit nowhere" in batchspec(root, "render", "--diff", "nowhere", expect=1)


def test_completion_knows_jobs_and_specs(project: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPEC.replace("output: {path: out/hello.jsonl}", 'output: {path: "out/{{ address }}.jsonl"}')
    root = project({"specs/hello.yaml": spec + "matrix: {temperature: [0, 1]}\n"})
    monkeypatch.chdir(root)
    assert complete_jobs("he") == ["hello", "hello[temperature=0]", "hello[temperature=1]"]
    assert complete_jobs("x") == []
    assert complete_specs("sp") == ["specs/hello.yaml"]
    (root / "specs/hello.yaml").write_text("broken")
    assert complete_jobs("he") == []
