"""Starting from one's own rows, looking at requests, and completion for the shell."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.cli.commands.init import init
from runner.cli.completion import complete_jobs, complete_providers, complete_specs
from runner.cli.terminal.terminal import error_text
from runner.errors import BatchspecError
from runner.jobspec.loader import load_project
from runner.planner.render import first_requests
from tests.cli_runner import cli_path, run_cli
from tests.conftest import SPEC
from tests.sampling import sampled

Write = Callable[..., Path]


def batchspec(root: Path, *arguments: str, expect: int = 0) -> str:
    done = run_cli(arguments, cwd=root, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


DATA = {
    "my-reviews.csv": b"stars,Review ID,my text,class\n5,r1,good,a\n5,r2,bad,a\n",
    "rows.jsonl": b'{"n": 1, "question": "Why?"}\n{"n": 1, "question": "When?"}\n{"n": 1, "question": "Why?"}\n',
    "list.json": b'[{"id": 1, "vars": "x{{ y }}", "deep": {"a": 1}}]',
    "x.tsv": b"on\tkey\n1\tyes\n",
    "german.csv": b'nr;text;preis\r\n1;"gut; sehr, sehr gut";1,50\r\n2;schlecht;2,00\r\n',
}


@pytest.mark.parametrize("name", sampled(DATA, 2))
def test_from_rows_to_answers_in_three_commands(tmp_path: Path, name: str) -> None:
    root = tmp_path / "mine"
    (root / "data").mkdir(parents=True)
    (root / "data" / name).write_bytes(DATA[name])
    batchspec(root, "init", "--from", f"data/{name}")
    assert " to submit, 0 reused" in batchspec(root, "plan", "--provider", "local")
    batchspec(root, "apply", "--provider", "local", "--yes")
    [output] = (root / ".batchspec/realms/local/out").glob("*.jsonl")
    assert (
        len(output.read_text().splitlines())
        == {"my-reviews.csv": 2, "rows.jsonl": 3, "list.json": 1, "x.tsv": 1, "german.csv": 2}[name]
    )


@pytest.mark.parametrize(
    ("name", "data", "said"),
    sampled(
        [
            pytest.param("a.csv", b"id;text\n1;a, b, c\n", '";"', id="semicolons"),
            pytest.param("a.csv.gz", gzip.compress(b"id|te,xt\n1|a\n"), '"|"', id="bars, packed"),
            pytest.param("a.csv", "id\tté\r\n1\ta\r\n".encode("utf-16"), '"\\t"', id="tabs, of Windows"),
            pytest.param("a.csv", b'id,"a;b;c"\n1,2\n', "", id="commas"),
            pytest.param("a.csv", b"id;a, b;c\n1;x, y, z;2,5\n", '";"', id="commas in values"),
            pytest.param("a.csv", b"a\nx\n", "", id="one column"),
            pytest.param("a.csv", b"id;text\n1;" + b"x" * 200_000 + b"\n", '";"', id="a long text"),
            pytest.param("a.tsv", b"id\ttext\n1\ta\n", "", id="tsv"),
        ],
        3,
    ),
)
def test_the_delimiter_is_found(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    batchspec(tmp_path, "init", "--from", name)
    spec = (tmp_path / "specs/a.yaml").read_text()
    assert re.findall(r"delimiter: (.+)\n", spec) == ([said] if said else [])
    batchspec(tmp_path, "plan", "--provider", "local")


def test_the_id_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(DATA["my-reviews.csv"])
    told = batchspec(tmp_path, "init", "--from", "a.csv")
    assert "4 columns, `Review ID` is the id" in told
    assert '  id: "Review ID"\n' in (tmp_path / "specs/a.yaml").read_text()
    template = (tmp_path / "templates/a.j2").read_text()
    assert 'my text: {{ row["my text"] }}\nclass: {{ row["class"] }}\n' in template


def start(root: Path, name: str) -> None:
    """`init --from` in this process."""
    init(folder=root, project=None, data=root / name)


def started(root: Path, name: str, data: bytes) -> tuple[str, str, str]:
    """The spec and the template for a file, and the first requests that they make."""
    root.mkdir(exist_ok=True)
    (root / name).write_bytes(data)
    start(root, name)
    [spec], [template] = (root / "specs").iterdir(), (root / "templates").iterdir()
    loaded = load_project(root, variables={}, provider="local", environ={})
    requests = b"".join(line for _, line in first_requests(loaded.jobs[0], root, 10))
    return spec.read_text(encoding="utf-8"), template.read_text(encoding="utf-8"), requests.decode()


@pytest.mark.parametrize(
    ("data", "column"),
    [
        pytest.param(b"review,stars\nI love it.,5\nIt broke.,1\n", "", id="texts are no ids"),
        pytest.param(b"id,text\n1,a\n1,b\n", "", id="an id that stands twice"),
        pytest.param(b"sku,id\nx,1\ny,1\n", "sku", id="another one is unique"),
        pytest.param(b"text,orderId\na,1\nb,2\n", "orderId", id="by its name"),
        pytest.param(b"place,text\nparis,a\nrome,b\n", "place", id="the first column"),
        pytest.param(b"text\na\nb\n", "", id="one column"),
        pytest.param(b"id,text\n,a\n2,b\n", "", id="an empty one"),
    ],
)
def test_an_id_is_a_name_and_unique(tmp_path: Path, data: bytes, column: str) -> None:
    """What is the id is not in the template: a text taken for one would not be asked."""
    spec, template, _ = started(tmp_path / "mine", "rows.csv", data)
    assert [line for line in spec.splitlines() if "  id:" in line] == ([f"  id: {column}"] if column else [])
    for name in data.split(b"\n")[0].decode().split(","):
        assert (f"{{{{ {name} }}}}" in template) is (name != column)


def test_columns_that_some_rows_lack(tmp_path: Path) -> None:
    data = b'{"id": 1, "text": "a"}\n{"id": 2, "two words": "b"}\n'
    _, template, _ = started(tmp_path / "mine", "rows.jsonl", data)
    assert 'text: {{ text | default("") }}\ntwo words: {{ row.get("two words", "") }}\n' in template


@pytest.mark.parametrize(
    ("name", "encoding", "said"),
    [
        pytest.param("caf\u00e9.csv", "cp1252", "encoding: cp1252", id="Windows"),
        pytest.param("x y (1).csv", "utf-16", "encoding: utf-16", id="UTF-16"),
        pytest.param("[x].csv", "utf-8-sig", None, id="a byte order mark"),
    ],
)
def test_files_as_other_programs_write_them(tmp_path: Path, name: str, encoding: str, said: str | None) -> None:
    data = "id,prénom\r\n1,Zoé\r\n".encode(encoding)
    if name == "[x].csv":
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BatchspecError, match="contains characters with a meaning in specs"):
            start(tmp_path, name)
        name = "x.csv"
    spec, template, requests = started(tmp_path / "mine", name, data)
    assert (said in spec) if said else ("encoding" not in spec)
    assert 'prénom: {{ row["prénom"] }}' in template
    assert "prénom: Zoé" in requests


def test_packed_files(tmp_path: Path) -> None:
    import gzip

    spec, _, _ = started(tmp_path / "mine", "rows.csv.gz", gzip.compress(b"id,text\n1,a\n"))
    assert "name: rows\n" in spec
    assert "  path: rows.csv.gz\n" in spec


def test_parquet(tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "rows.parquet"
    duckdb.sql(f"COPY (SELECT 7 AS id, DATE '2026-11-23' AS day, 1.5::DECIMAL(9,2) AS price) TO '{path}'")
    _, template, _ = started(tmp_path / "mine", "rows.parquet", path.read_bytes())
    assert template.startswith("day: {{ day }}\nprice: {{ price }}\n")


def test_what_is_there_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Twice, in a folder with files of its own, and with the file changed meanwhile: nothing is overwritten."""
    (tmp_path / ".gitignore").write_text("mine")
    (tmp_path / "a.csv").write_bytes(DATA["my-reviews.csv"])
    start(tmp_path, "a.csv")
    assert (tmp_path / ".gitignore").read_text() == "mine\n.batchspec/\n"
    (tmp_path / "a.csv").write_bytes(b"other,columns\n1,2\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    start(tmp_path, "a.csv")
    assert "Kept the existing specs/a.yaml" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_folder_is_said_in_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    init(folder=Path("my project"))
    told = capsys.readouterr().out
    assert "without a key:\n  cd 'my project'\n  batchspec plan" in told
    assert "project: my-project\n" in (tmp_path / "my project/batchspec.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        pytest.param("a.csv", b"", "a.csv:1: the file is empty", id="empty"),
        pytest.param("a.csv", b"a,b\n", "a.csv has no rows", id="no rows"),
        pytest.param("a.csv", b"a,b\n1\n", "a.csv:2: 1 field, but the header has 2", id="ragged"),
        pytest.param("a.csv", b"a,b,a\n1,2,3\n", "a.csv:1: the header names a twice", id="a column twice"),
        pytest.param("a.jsonl", b"\n", "a.jsonl has no rows", id="no lines"),
        pytest.param("a.json", b'{"a": 1}', "must hold a list of objects", id="one object"),
        pytest.param("a.jsonl", b"[1]\n", "a.jsonl:1:1: each line must be a JSON object", id="lists"),
        pytest.param("a.xlsx", b"PK\x03\x04", "cannot read rows from a.xlsx: unknown file type", id="a workbook"),
        pytest.param("a.csv.gz", b"a,b\n1,2\n", "a.csv.gz: cannot be read: Not a gzipped file", id="no gzip"),
    ],
)
def test_rows_that_can_not_be_read_are_told(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BatchspecError) as caught:
        start(tmp_path, name)
    assert says in error_text(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name not in {"home", name}] == []


def test_a_file_from_elsewhere_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "sub").mkdir()
    for name, says in (("../a.csv", "is outside the project folder"), ("b.csv", "file not found")):
        with pytest.raises(BatchspecError, match=says):
            start(tmp_path / "sub", name)


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
    assert "0 of the first 3 requests differ from HEAD" in batchspec(root, "render", "--diff", "HEAD")
    spec = root / "specs/hello.yaml"
    spec.write_text(
        SPEC.replace("Say {{ text }}.", "Please say {{ text }}.").replace("temperature: 0", "temperature: 1")
    )
    told = batchspec(root, "render", "--diff", "HEAD", "-n", "1")
    assert "# hello, row 1\n Be brief.\n \n-Say one.\n+Please say one.\n  temperature: 0 -> 1\n" in told
    assert "3 of the first 3 requests differ from HEAD" in told
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
    (root / "specs/hello.lock").write_text('{"lockfile":2,"current":{"hello[date=1]":null}}\n')
    assert complete_jobs("he") == ["hello[date=1]"], "what lockfiles know needs no spec"
    assert complete_providers("l") == ["local"]


BASH = """
source <(_BATCHSPEC_COMPLETE=source_bash batchspec)  # --show-completion would look for the shell that started pytest
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
    _batchspec_completion batchspec
    echo "${COMPREPLY[@]}"
}
try batchspec val
try batchspec plan --job he
try batchspec plan --job 'hello[temperature' = ''
try batchspec plan specs/h
try batchspec plan --provider d
"""


def test_completion_in_bash(project: Write) -> None:
    """Bash itself, which hands an address over in pieces."""
    spec = SPEC.replace("output: {path: out/hello.jsonl}", 'output: {path: "out/{{ address }}.jsonl"}')
    root = project({"specs/hello.yaml": spec + "matrix: {temperature: [0, 1]}\n"})
    command = root / "bin/batchspec"
    command.parent.mkdir()
    command.symlink_to(cli_path())
    environ = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH], cwd=root, capture_output=True, text=True, timeout=120, check=True, env=environ
    )
    assert done.stdout.splitlines() == [
        "validate",
        "hello hello[temperature=0] hello[temperature=1]",
        "0] 1]",
        "specs/hello.yaml",
        "digitalocean",
    ]


def test_the_command_alone_shows_its_help(tmp_path: Path) -> None:
    assert "Commands:" in batchspec(tmp_path)


def test_a_job_that_was_never_applied_has_nothing_to_verify(tmp_path: Path) -> None:
    batchspec(tmp_path, "init")
    told = batchspec(tmp_path, "verify", expect=1)
    assert told == "hello: not verified\n  ! specs/hello.lock records nothing of this job: it was never applied\n"


def test_nobody_else_can_read_the_store(tmp_path: Path) -> None:
    """`init`, `plan` and `apply` keep prompts and answers in folders that only their owner may enter."""
    batchspec(tmp_path, "init")
    batchspec(tmp_path, "apply", "--provider", "local", "--yes")
    assert (tmp_path / ".batchspec").stat().st_mode & 0o077 == 0
