"""Inputs that are wrong: every problem of every file at once, each with file, line and column, in little memory."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from syrupy.assertion import SnapshotAssertion

from runner.cli.terminal.terminal import error_text
from runner.errors import InputError, SpecError
from runner.planner.render import render_job
from tests.planner.input.test_source import JSONL, SPEC, load, rows
from tests.sampling import sampled

Write = Callable[..., Path]


GZ = gzip.compress(JSONL * 50)
ZST = zstandard.compress(JSONL * 5_000)
BROKEN = {
    "csv-ragged": ("{path: data/a.csv, id: id}", "a.csv", b"id,text\n1,a\n2\n3,a,b\n4,d\n5,e,f,g\n"),
    "csv-open-quote": ("{path: data/a.csv, id: id}", "a.csv", b'id,text\n1,a\n2,"b\n3,c\n'),
    "csv-quote-inside": ("{path: data/a.csv, id: id}", "a.csv", b'id,text\n1,"a"b\n'),
    "csv-empty": ("{path: data/a.csv, id: id}", "a.csv", b""),
    "csv-doubled-header": ("{path: data/a.csv, id: id}", "a.csv", b"id,text,text\n1,a,b\n"),
    "csv-not-utf8": ("{path: data/a.csv, id: id}", "a.csv", b"id,text\n1,ok\n2,caf\xe9\n3,ok\n4,\xff\n"),
    "csv-no-such-id": ("{path: data/a.csv, id: key}", "a.csv", b"id,text\n1,a\n2,b\n"),
    "jsonl-broken": ("{path: data/a.jsonl, id: id}", "a.jsonl", b'{"id": 1}\n{"id": 2\n{"id": 3}\nhello\n[1]\n'),
    "jsonl-nan": ("{path: data/a.jsonl, id: id}", "a.jsonl", b'{"id": 1, "x": NaN}\n{"id": 2, "x": -Infinity}\n'),
    "jsonl-not-utf8": ("{path: data/a.jsonl, id: id}", "a.jsonl", b'{"id": 1, "text": "\xc3\xa9\xe9"}\n'),
    "jsonl-doubled-ids": ("{path: data/a.jsonl, id: id}", "a.jsonl", b'{"id": 1}\n{"id": 2}\n{"id": 1}\n{"id": 2}\n'),
    "jsonl-doubled-pairs": ("{path: data/a.jsonl, id: [a, b]}", "a.jsonl", b'{"a": 1, "b": 2}\n{"a": 1, "b": 2}\n'),
    "jsonl-big-number": ("{path: data/a.jsonl, id: id}", "a.jsonl", b'{"id": 1, "x": 99999999999999999999}\n'),
    "jsonl-too-large": ("{path: data/a.jsonl, id: id}", "a.jsonl", b'{"id": 1, "x": 1e400}\n{"id": 2, "x": -1e999}\n'),
    "jsonl-surrogates": (
        "{path: data/a.jsonl, id: id}",
        "a.jsonl",
        b'{"id": "\\ud800"}\n{"id": "\\udc00"}\n{"\\ud800x": 1}\n',
    ),
    "jsonl-doubled-keys": (
        "{path: data/a.jsonl, id: id}",
        "a.jsonl",
        b'{"id": 1, "id" : 2}\n{"id": 3, "a": {"b":1,"c":[{"d":":","d":2}]}}\n',
    ),
    "jsonl-deep": (
        "{path: data/a.jsonl, id: id}",
        "a.jsonl",
        b'{"id": 1, "x": ' + b"[" * 2_000 + b"]" * 2_000 + b"}\n",
    ),
    "jsonl-no-such-id": (
        "{path: data/a.jsonl, id: [id, n]}",
        "a.jsonl",
        b'{"id": 1}\n{"id": 1, "n": null}\n{"id": 1, "n": 1.5}\n{"id": "", "n": 1}\n',
    ),
    "json-empty": ("{path: data/a.json, id: id}", "a.json", b" \n"),
    "json-many-digits": ("{path: data/a.json, id: id}", "a.json", b'[{"id": 1, "x": ' + b"9" * 5_000 + b"}]"),
    "json-doubled-keys": ("{path: data/a.json, id: id}", "a.json", b'[\n{"id": 1,\n"id": 2}\n]'),
    "json-deep": ("{path: data/a.json, id: id}", "a.json", b"[" * 5_000),
    "csv-blank-line-first": ("{path: data/a.csv, id: id}", "a.csv", b"\nid,text\n1,a\n"),
    "csv-semicolons": ("{path: data/a.csv, id: id}", "a.csv", b"id;text\n1;a\n"),
    "tsv-commas": ("{path: data/a.tsv, id: id}", "a.tsv", b"id,text\n1,a\n"),
    "csv-delimiter-ragged": ("{path: data/a.csv, delimiter: '|', id: id}", "a.csv", b"id|text\n1|a|b\n2\n1|c\n"),
    "jsonl-delimiter": ("{path: data/a.jsonl, delimiter: ';', id: id}", "a.jsonl", JSONL),
    "csv-quoted-newlines": ("{path: data/a.csv, id: id}", "a.csv", b'id,text\n1,"a\nb\n"\n2,"c\r\nd"\n3\n4,x\n4,y\n'),
    "jsonl-many-bad": ("{path: data/a.jsonl, id: id}", "a.jsonl", b"nonsense\n" * 300),
    "json-object": ("{path: data/a.json, id: id}", "a.json", b'{"rows": []}'),
    "json-lines-in-it": ("{path: data/a.json, id: id}", "a.json", b'{"id": 1}\n{"id": 2}\n'),
    "json-broken": ("{path: data/a.json, id: id}", "a.json", b'[\n  {"id": 1},\n  {"id": 2,,}\n]'),
    "json-no-comma": ("{path: data/a.json, id: id}", "a.json", b'[\n{"id": 1}\n{"id": 2}]'),
    "json-cut-short": ("{path: data/a.json, id: id}", "a.json", b'[{"id": 1}, {"id": 2'),
    "json-more-behind": ("{path: data/a.json, id: id}", "a.json", b'[{"id": 1}]\n[]'),
    "json-numbers": ("{path: data/a.json, id: id}", "a.json", b'[\n1,\n{"id": 2},\n"x"]'),
    "json-nan": ("{path: data/a.json, id: id}", "a.json", b'[{"id": 1,\n "x": NaN}]'),
    "json-not-utf8": ("{path: data/a.json, id: id}", "a.json", b'[{"id": 1},\n{"id": "\xff"}]'),
    "gz-cut-short": ("{path: data/a.jsonl.gz, id: id}", "a.jsonl.gz", GZ[:-20]),
    "gz-not-gz": ("{path: data/a.jsonl.gz, id: id}", "a.jsonl.gz", JSONL),
    "gz-damaged": ("{path: data/a.jsonl.gz, id: id}", "a.jsonl.gz", GZ[:30] + b"\0\0\0\0" + GZ[34:]),
    "zst-cut-short": ("{path: data/a.jsonl.zst, limit: 1}", "a.jsonl.zst", ZST[:20]),
    "zst-not-zst": ("{path: data/a.jsonl.zst, id: id}", "a.jsonl.zst", JSONL),
    "encoding-wrong": ("{path: data/a.csv, id: id, encoding: ascii}", "a.csv", b"id,text\n1,ok\n2,caf\xc3\xa9\n"),
    "parquet-not-parquet": ("{path: data/a.parquet, id: id}", "a.parquet", b"PAR?" * 20),
    "text-not-utf8": ("{text: 'data/*.txt'}", "a.txt", b"ok\ncaf\xe9\n"),
    "missing": ("{path: data/none.csv, id: id}", "a.csv", b""),
    "no-match": ("{path: 'data/*.none', id: id}", "a.csv", b""),
    "unknown-format": ("{path: data/a.xlsx, id: id}", "a.xlsx", b""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_input_is_reported(project: Write, tmp_path: Path, name: str, snapshot: SnapshotAssertion) -> None:
    source, file, data = BROKEN[name]
    loaded = load(project, source, {f"data/{file}": data})
    with pytest.raises(InputError) as caught:
        render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch")
    told = error_text(caught.value)
    assert f"data/{file}" in told or "specs/hello.yaml:4:" in told
    assert told == snapshot


def test_zst_that_is_cut_short_is_no_shorter_file(project: Write, tmp_path: Path) -> None:
    """The library's own reader ends without a word, and rows would be missing."""
    loaded = load(project, "{path: data/a.jsonl.zst}", {"data/a.jsonl.zst": ZST[:-20]})
    with pytest.raises(InputError, match="the compressed data is truncated"):
        render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch")


def test_what_is_wrong_before_the_end_is_told_too(project: Write, tmp_path: Path) -> None:
    good = b"".join(b"%d,xx\n" % number for number in range(2, 4_002))
    loaded = load(project, "{path: data/a.csv, id: id}", {"data/a.csv": b"id,text\n1\n" + good + b'3,"b\n'})
    with pytest.raises(InputError) as caught:
        render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch", jobs=1)
    assert [problem.line for problem in caught.value.problems] == [2, 4_003]


EVERYTHING = {
    "data/a.csv": b'id,text\n1,"quoted\nnewlines, ""two\n"""\n2\n1,again\n',
    "data/b.csv": b'id,text\n5,"open\n6,x\n',
    "data/c.csv": b"",
    "data/d.csv.gz": gzip.compress(b"id,text\n7,x\n8\n" * 3)[:-10],
    "data/e.csv": b"id,text\n2,caf\xe9\n",
    "data/f.csv": b"text\nno id\n",
    "data/g.csv.zst": b"nonsense",
    "data/h.csv": b"id,text\n1,from another file\n",
    "data/i.jsonl": b'{"id": 9, "x": NaN}\n{"id": 10, "id": 11}\n{"id": 12, "x": 1e400}\n{"text": "no id"}\n',
}


def test_everything_that_is_wrong_with_all_files_is_told_at_once(
    project: Write, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    """A file that can't be read on does not hide what is wrong with the next one, nor do bad rows hide doubled ids."""
    loaded = load(project, "{path: 'data/[a-i].*', id: id}", EVERYTHING)
    with pytest.raises(InputError) as caught:
        render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch")
    told = error_text(caught.value)
    assert {problem.file for problem in caught.value.problems} == EVERYTHING.keys()
    assert told == snapshot


def test_what_is_wrong_with_files_is_bounded(project: Write, tmp_path: Path) -> None:
    loaded = load(project, "{path: 'data/*.csv', id: id}", {f"data/{n:03}.csv": b"" for n in range(200)})
    with pytest.raises(InputError) as caught:
        render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch")
    assert len(caught.value.problems) == 20


@pytest.mark.parametrize("some", ["limit: 2", "sample: {n: 2}"])
def test_some_rows_are_never_taken_from_behind_a_broken_file(project: Write, tmp_path: Path, some: str) -> None:
    """Else a file that was copied badly would give other rows, without a word."""
    files = {"data/a.jsonl": b'{"id": 1}\n', "data/b.jsonl.gz": b"no gz", "data/c.jsonl": b'{"id": 2}\n{"id": 3}\n'}
    loaded = load(project, f"{{path: 'data/[a-c].*', id: id, {some}}}", files)
    with pytest.raises(InputError, match=r"data/b\.jsonl\.gz: cannot be read"):
        render_job(loaded.jobs[0], loaded.root, tmp_path / "scratch")


@pytest.mark.parametrize(
    ("source", "kind", "says"),
    [
        pytest.param("path: data/special.jsonl", "pipe", "is a device or a pipe", id="a pipe"),
        pytest.param("path: 'data/*special*'", "pipe", "no file matches", id="a pipe, by glob"),
        pytest.param("text: data/special.jsonl", "pipe", "is a device or a pipe", id="a pipe as text"),
        pytest.param("path: data/special.jsonl", "folder", "is a folder; for the files in it", id="a folder"),
        pytest.param("path: data/special.jsonl", "/dev/zero", "leads outside the project", id="a device"),
        pytest.param("path: data/special.jsonl", "/etc/hostname", "leads outside the project", id="a link out"),
        pytest.param("path: 'data/*special*'", "/etc/hostname", "leads outside the project", id="a link out, by glob"),
        pytest.param("path: data/special.jsonl/hostname", "/etc", "leads outside the project", id="below a link"),
        pytest.param("path: 'data/special.jsonl/*'", "/etc", "leads outside the project", id="below a link, by glob"),
        pytest.param("path: data/special.jsonl", "nowhere", "there is no input file", id="a link to nothing"),
        pytest.param("path: data/special.jsonl", "special.jsonl", "can't be resolved", id="a link to itself"),
        pytest.param("path: data/special.jsonl", "../.git/config", "is git's own", id="a link to git's own"),
        pytest.param("path: data/spezial.jsonl", "pipe", "did you mean `special.jsonl`?", id="a typo"),
        pytest.param("path: 's3://bucket/a.jsonl'", "pipe", "is not a file of this project", id="a URL"),
        pytest.param("path: 'data/**b/*'", "pipe", "can't search for", id="no glob"),
    ],
)
def test_what_is_no_file_of_the_project_is_told(
    project: Write, tmp_path: Path, source: str, kind: str, says: str
) -> None:
    path = project({".git/config": "token"}) / "data/special.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(kind)
    with pytest.raises((InputError, SpecError)) as caught:
        render_job(load(project, f"{{{source}, id: id}}", {}).jobs[0], path.parents[1], tmp_path / "scratch")
    assert says in str(caught.value)
    assert "specs/hello.yaml:4:" in str(caught.value)


def test_more_files_than_can_be_told_apart_is_an_error(project: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.planner.input.source.MAX_FILES", 2)
    with pytest.raises(InputError, match="matches 3 files; at most 2 are allowed"):
        rows(project, "{path: 'data/*.csv', id: id}", **{f"data__{n}_DOT_csv": b"id\n1\n" for n in "abc"})


def in_little_memory(project: Write, source: str, files: dict[str, bytes], *, megabytes: int) -> str:
    """What a plan says in a process that has only so much memory."""
    root = project({"specs/hello.yaml": SPEC.replace("{INPUT}", source), **files})
    program = (
        "import resource, sys; from runner.cli.main import main; "
        f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20},) * 2); "
        "sys.argv = ['batchspec', 'plan', '--provider', 'local', '--offline']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_few_packed_bytes_do_not_fill_the_memory(project: Write) -> None:
    """Half a gigabyte of spaces in some ten thousand bytes."""
    packed = zstandard.ZstdCompressor(level=3).compress(b" " * (1 << 29))
    assert len(packed) < 200_000
    told = in_little_memory(project, "{path: data/a.jsonl.zst}", {"data/a.jsonl.zst": packed}, megabytes=700)
    assert "longer than 67108864 bytes" in told


@pytest.mark.parametrize("kind", sampled(["jsonl", "json", "csv", "tsv", "txt"], 2))
def test_one_huge_line_is_an_error(project: Write, kind: str) -> None:
    data = {"json": b'[{"a": "', "csv": b"a\n", "tsv": b"a\n"}.get(kind, b"") + b"x" * (70 << 20)
    source = "{text: data/a.txt}" if kind == "txt" else f"{{path: data/a.{kind}}}"
    told = in_little_memory(project, source, {f"data/a.{kind}": data}, megabytes=1_500)
    assert "67108864" in told
