"""Input that is not what it seems: Git LFS pointers, UTF-16, folders. Each error says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.base import lfs
from runner.errors import BatchspecError
from runner.jobspec.answer_schema import BadSchema, read_schema
from runner.planner.render import first_requests
from runner.planner.templates.environment import read_template
from tests.planner.input.test_source import CSV, JSONL, TSV, load, rows

Write = Callable[..., Path]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"
POINTED = "a Git LFS pointer, not the file itself; run `git lfs pull`"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(f"{{path: data/{name}, id: id}}", id=name)
        for name in ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.csv.zst", "*.jsonl")
    ]
    + [
        pytest.param("{text: data/a.txt}", id="text"),
        pytest.param("{id: id, sql: \"SELECT * FROM 'data/a.csv'\"}", id="sql"),
        pytest.param("{id: id, sql: \"SELECT * FROM read_csv('data/*.csv')\"}", id="sql with a pattern"),
        pytest.param("{path: data/a.csv, encoding: utf-16, id: id}", id="of another encoding"),
    ],
)
def test_a_pointer_in_place_of_rows(project: Write, source: str) -> None:
    names = ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.csv.zst", "a.txt")
    loaded = load(project, source, {f"data/{name}": POINTER for name in names})
    with pytest.raises(BatchspecError) as caught:
        list(first_requests(loaded.jobs[0], loaded.root, 10))
    assert POINTED in str(caught.value)
    assert "data/a." in str(caught.value)


def test_a_pointer_in_place_of_a_schema_or_a_template(project: Write) -> None:
    root = project({"schemas/a.json": POINTER, "templates/a.j2": POINTER})
    with pytest.raises(BadSchema, match="schemas/a.json is a Git LFS pointer.*git lfs pull"):
        read_schema(root, "schemas/a.json")
    assert "templates/a.j2 is a Git LFS pointer" in read_template(root, "a.j2").problem


def test_what_is_a_pointer() -> None:
    assert lfs.is_pointer(POINTER.replace(b"\n", b"\r\n"))
    assert not lfs.is_pointer(b"# " + POINTER)
    assert not lfs.is_pointer(POINTER[:20])


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        pytest.param("a.jsonl", JSONL.decode().encode("utf-16"), "`encoding: utf-16`", id="jsonl"),
        pytest.param("a.jsonl", JSONL.decode().encode("utf-16-le"), "`encoding: utf-16-le`", id="without its mark"),
        pytest.param("a.csv", CSV.decode().encode("utf-16-be"), "`encoding: utf-16-be`", id="big endian"),
        pytest.param("a.csv", "id,text\n1,日本語\n".encode("utf-16"), "`encoding: utf-16`", id="Japanese"),
        pytest.param("a.csv", TSV.decode().encode("utf-16"), "`format: tsv`", id="Unicode Text, called csv"),
        pytest.param("a.txt", TSV.decode().encode("utf-16"), "`format: tsv` and `encoding: utf-16`", id="Unicode Text"),
    ],
)
def test_utf16_is_recognised(project: Write, name: str, data: bytes, says: str) -> None:
    loaded = load(project, f"{{path: data/{name}, id: id}}", {f"data/{name}": data})
    with pytest.raises(BatchspecError, match=says):
        list(first_requests(loaded.jobs[0], loaded.root, 10))


def test_unicode_text_of_excel_is_read_as_the_error_says(project: Write) -> None:
    data = TSV.decode().replace("\n", "\r\n").encode("utf-16")
    found = rows(project, "{path: data/a.txt, format: tsv, encoding: utf-16, id: id}", data__a_DOT_txt=data)
    assert [row["text"] for _, row in found][:2] == ["one", "zwei, drei"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param(("a.jsonl", "b.jsonl", "c.csv"), "(2 .jsonl and 1 .csv), write data/in/*.jsonl or data/in/*.csv", id="two kinds"),
        pytest.param(("v1.a.jsonl.gz",), "(1 .jsonl.gz), write data/in/*.jsonl.gz", id="compressed"),
        pytest.param(("a.pdf", ".b.csv"), "data/in/*.jsonl or the like; it contains no row files now", id="none"),
    ],
)  # fmt: skip
def test_a_folder_says_what_to_write(project: Write, files: tuple[str, ...], says: str) -> None:
    loaded = load(project, "{path: data/in, id: id}", {f"data/in/{name}": JSONL for name in files})
    with pytest.raises(BatchspecError) as caught:
        list(first_requests(loaded.jobs[0], loaded.root, 10))
    assert says in str(caught.value)
