"""Sources: every format gives the same rows, wherever they stand; what is wrong names file, line and column."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import InputError, SpecError
from runner.jobspec.loader import Project, load_project
from runner.planner.render import Desired, first_requests, render_job

Write = Callable[..., Path]
SPEC = """\
version: 1
name: hello
model: m
input: {INPUT}
prompt: {user: "{{ row | tojson }}"}
output: {path: out/hello.jsonl}
"""
ROWS = [{"id": 1, "text": "one"}, {"id": 2, "text": "zwei, drei"}, {"id": 3, "text": 'drei "3"\nvier'}]
JSONL = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)
CSV = b'id,text\n1,one\n2,"zwei, drei"\n3,"drei ""3""\nvier"\n'
TSV = b'id\ttext\n1\tone\n2\tzwei, drei\n3\t"drei ""3""\nvier"\n'
ARRAY = orjson.dumps(ROWS, option=orjson.OPT_INDENT_2)


def load(project: Write, source: str, files: dict[str, Any]) -> Project:
    spec = SPEC.replace("{INPUT}", source)
    return load_project(project({"specs/hello.yaml": spec, **files}), variables={}, provider="local", environ={})


def rows(project: Write, source: str, **files: Any) -> list[tuple[Any, dict[str, Any]]]:
    """(id, row) of all rows, as they come out of the rendered requests."""
    named = {name.replace("__", "/"): data for name, data in files.items()}
    loaded = load(project, source, {path.replace("_DOT_", "."): data for path, data in named.items()})
    found = []
    for identity, line in first_requests(loaded.jobs[0], loaded.root, 10_000):
        request = orjson.loads(line)
        found.append((orjson.loads(identity), orjson.loads(request["body"]["messages"][0]["content"])))
    return found


def as_text(found: list[tuple[Any, dict[str, Any]]]) -> list[dict[str, str]]:
    return [{name: str(value) for name, value in row.items()} for _, row in found]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("a.jsonl", JSONL, id="jsonl"),
        pytest.param("a.ndjson", JSONL, id="ndjson"),
        pytest.param("a.json", ARRAY, id="a JSON array"),
        pytest.param("a.csv", CSV, id="csv"),
        pytest.param("a.tsv", TSV, id="tsv"),
        pytest.param("a.csv", CSV.replace(b"\n", b"\r\n").replace(b'3""\r\nvier', b'3""\nvier'), id="csv of Windows"),
        pytest.param("a.jsonl", b"\xef\xbb\xbf" + JSONL, id="jsonl with a byte order mark"),
        pytest.param("a.csv", b"\xef\xbb\xbf" + CSV, id="csv with a byte order mark"),
        pytest.param("a.json", b"\xef\xbb\xbf" + ARRAY, id="an array with a byte order mark"),
        pytest.param("a.jsonl.gz", gzip.compress(JSONL), id="gz"),
        pytest.param("a.csv.gz", gzip.compress(CSV[:20]) + gzip.compress(CSV[20:]), id="gz in two members"),
        pytest.param("a.json.zst", zstandard.ZstdCompressor().compress(ARRAY), id="zst"),
        pytest.param("a.csv.zst", zstandard.compress(CSV[:9]) + zstandard.compress(CSV[9:]), id="zst in two frames"),
        pytest.param("a.jsonl", JSONL.rstrip(b"\n").replace(b"\n", b"\n\n  \n"), id="blank lines, no last line end"),
    ],
)
def test_every_format_gives_the_same_rows(project: Write, name: str, data: bytes) -> None:
    found = rows(project, f"{{path: data/{name}, id: id}}", **{f"data__{name}": data})
    assert as_text(found) == [{name: str(value) for name, value in row.items()} for row in ROWS]


PACKED: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
ENCODED = {"utf-8": b"", "utf-8-sig": b"\xef\xbb\xbf", "latin-1": b"", "utf-16-le": b"", "utf-16": b"\xff\xfe"}
"""Encodings, and the mark that stands first in files of theirs."""


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "json", "csv", "tsv"])
def test_all_ways_to_write_a_file_give_the_same_rows(project: Write, kind: str) -> None:
    """Packed or not, in each encoding, with and without a byte order mark, with the line ends of Unix and Windows."""
    wanted = [("1", {"id": "1", "text": "é, one"}), ("2", {"id": "2", "text": 'zwei "2"'})]
    root = project()
    for (suffix, pack), (encoding, mark), end in itertools.product(PACKED.items(), ENCODED.items(), ("\n", "\r\n")):
        records = [row for _, row in wanted]
        if kind in {"csv", "tsv"}:
            between = {"csv": ",", "tsv": "\t"}[kind]
            quoted = ['"{}"'.format(row["text"].replace('"', '""')) for row in records]
            lines = [f"{row['id']}{between}{text}" for row, text in zip(records, quoted, strict=True)]
            text = end.join([f"id{between}text", *lines, ""])
        else:
            texts = [orjson.dumps(row).decode() for row in records]
            text = f"[{end}{f',{end}'.join(texts)}{end}]" if kind == "json" else end.join([*texts, ""])
        plain = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding)
        (root / f"data/a.{kind}{suffix}").write_bytes(pack(mark + text.encode(plain)))
        said = "utf-8" if encoding == "utf-8-sig" else encoding
        assert rows(project, f"{{path: data/a.{kind}{suffix}, id: id, encoding: {said}}}") == wanted


@pytest.mark.parametrize("mark", [";", "|", "\t", ":", " "])
@pytest.mark.parametrize("more", ["", ", limit: 3", ", sample: {n: 3}"], ids=["all", "limit", "sample"])
def test_values_are_separated_by_what_is_said(project: Write, mark: str, more: str) -> None:
    data = CSV.replace(b",", mark.encode()).replace(b"zwei" + mark.encode(), b"zwei,").replace(b"one", b'"one"')
    source = f"{{path: data/a.csv.gz, delimiter: {orjson.dumps(mark).decode()}, id: id{more}}}"
    found = rows(project, source, data__a_DOT_csv_DOT_gz=gzip.compress(data))
    assert as_text(found) == [{name: str(value) for name, value in row.items()} for row in ROWS]


def test_a_header_of_one_column_may_hold_a_mark_where_the_delimiter_is_said(project: Write) -> None:
    found = rows(project, '{path: data/a.csv, delimiter: ","}', data__a_DOT_csv=b"a;b\nx;y\n")
    assert found == [(1, {"a;b": "x;y"})]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "shift_jis"])
def test_another_encoding_is_declared(project: Write, encoding: str) -> None:
    text = "id,text\n1,né\n" if encoding != "shift_jis" else "id,text\n1,日本\n"
    found = rows(project, f"{{path: data/a.csv, id: id, encoding: {encoding}}}", data__a_DOT_csv=text.encode(encoding))
    assert found == [("1", {"id": "1", "text": text[10:-1]})]


def test_a_glob_is_sorted(project: Write) -> None:
    found = rows(project, "{path: 'data/*.csv', id: id}", data__b_DOT_csv=b"id\n3\n", data__a_DOT_csv=b"id\n2\n1\n")
    assert [identity for identity, _ in found] == ["2", "1", "3"]


def test_a_glob_takes_nothing_hidden_unless_the_environment_allows_it(
    project: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"data/.hidden.csv": b"id\n9\n", ".batchspec/out/a.csv": b"id\n8\n", "data/a.csv": b"id\n1\n"}
    for glob, trust, wanted in (
        ("data/*.csv", "", ["1"]),
        ("**/*.csv", "", ["1"]),
        ("data/.*.csv", "data", ["9"]),
    ):
        monkeypatch.setenv("BATCHSPEC_TRUST_PATHS", trust)
        loaded = load(project, f"{{path: '{glob}', id: id}}", files)
        found = [orjson.loads(identity) for identity, _ in first_requests(loaded.jobs[0], loaded.root, 10)]
        assert found == wanted


def test_a_file_whose_name_looks_like_a_glob_is_that_file(project: Write) -> None:
    files = {"data/a[1].csv": b"id\n5\n", "data/a1.csv": b"id\n6\n"}
    loaded = load(project, "{path: 'data/a[1].csv', id: id}", files)
    assert [identity for identity, _ in first_requests(loaded.jobs[0], loaded.root, 10)] == [b'"5"']


def test_each_text_file_is_a_row(project: Write) -> None:
    found = rows(project, "{text: 'notes/*.md'}", notes__b_DOT_md="B\n", notes__a_DOT_b_DOT_md="\ufeffÄ".encode())
    assert found == [
        ("notes/a.b.md", {"path": "notes/a.b.md", "name": "a.b", "text": "Ä"}),
        ("notes/b.md", {"path": "notes/b.md", "name": "b", "text": "B\n"}),
    ]


def test_rows_stand_in_the_spec(project: Write) -> None:
    found = rows(project, "{id: [lang, n], rows: [{lang: en, n: 1}, {lang: de, n: 2, deep: {a: [1.5, null]}}]}")
    assert [identity for identity, _ in found] == [["en", 1], ["de", 2]]
    assert found[1][1]["deep"] == {"a": [1.5, None]}


def test_a_large_array_comes_in_pieces(project: Write) -> None:
    """Longer than a piece and than a chunk, with all that JSON has in strings."""
    many = [{"id": n, "text": 'x"]},{\\' * (n % 50), "n": [n, {"m": n / 7}]} for n in range(12_000)]
    loaded = load(
        project, "{path: data/a.json, id: id}", {"data/a.json": orjson.dumps(many, option=orjson.OPT_INDENT_2)}
    )
    got = [orjson.loads(orjson.loads(line)["body"]["messages"][0]["content"]) for _, line in first_requests(loaded.jobs[0], loaded.root, 20_000)]  # fmt: skip
    assert got == many


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_limit_takes_the_first(project: Write, name: str) -> None:
    data = {"a.jsonl": JSONL, "a.json": ARRAY, "a.csv": CSV}[name]
    found = rows(project, f"{{path: data/{name}, id: id, limit: 2}}", **{f"data__{name}": data})
    assert as_text(found) == [{name: str(value) for name, value in row.items()} for row in ROWS[:2]]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_sample_is_the_same_everywhere(project: Write, kind: str) -> None:
    def write(numbers: list[int]) -> bytes:
        if kind == "csv":
            return b"id,text\n" + b"".join(b'%d,"t\n%d"\n' % (n, n) for n in numbers)
        texts = [b'{"id": "%d", "text": "t%d"}' % (n, n) for n in numbers]
        return b"[" + b",".join(texts) + b"]" if kind == "json" else b"\n".join(texts)

    numbers = list(range(500))
    source = f"{{path: data/a.{kind}, id: id, sample: {{n: 20, seed: 7}}}}"
    name = f"data__a_DOT_{kind}"
    first = [int(identity) for identity, _ in rows(project, source, **{name: write(numbers)})]
    assert len(first) == 20
    assert first == sorted(first)
    random.Random(1).shuffle(numbers)
    shuffled = [int(identity) for identity, _ in rows(project, source, **{name: write(numbers)})]
    assert sorted(shuffled) == first
    more = [int(identity) for identity, _ in rows(project, source, **{name: write(list(range(520)))})]
    assert len(set(more) & set(first)) >= 15
    other = rows(project, source.replace("seed: 7", "seed: 8"), **{name: write(list(range(500)))})
    assert [int(identity) for identity, _ in other] != first
    few = rows(project, source, **{name: write([1, 2, 3])})
    assert len(few) == 3


def parquet(path: Path, query: str) -> None:
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")


def test_parquet_is_read(project: Write, tmp_path: Path) -> None:
    parquet(
        tmp_path / "a.parquet",
        "SELECT i AS id, 'row ' || i AS text, [i, 2] AS more, DATE '2026-11-23' AS day FROM range(2500) t(i)",
    )
    found = rows(project, "{path: data/a.parquet, id: id}", data__a_DOT_parquet=(tmp_path / "a.parquet").read_bytes())
    assert len(found) == 2500
    assert found[7] == (7, {"id": 7, "text": "row 7", "more": [7, 2], "day": "2026-11-23"})


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("{id: id}", "set one of `path`, `text`, `rows` and `sql`", id="no source"),
        pytest.param("{path: a.csv, sql: SELECT 1}", "not `path` and `sql`", id="two sources"),
        pytest.param("{rows: []}", "`rows` is empty", id="no rows"),
        pytest.param("{path: a.csv, limit: 1, sample: {n: 1}}", "`limit` or `sample`", id="limit and sample"),
        pytest.param("{path: a.csv, limit: 0}", "at least 1", id="limit 0"),
        pytest.param("{path: a.csv, encoding: klingon}", "is not a known encoding", id="encoding"),
        pytest.param("{path: a.csv, encoding: unicode_escape}", "is not a known encoding", id="a codec, no encoding"),
        pytest.param("{path: a.csv, format: xml}", "allowed: 'jsonl', 'json', 'csv', 'tsv' or 'parquet'", id="format"),
        pytest.param("{path: .git/config}", "is git's own", id="git's own"),
        pytest.param("{text: '../*'}", "`..`", id="texts outside"),
        pytest.param("{path: a.csv, id: []}", "at least 1 entry", id="no id columns"),
    ],
)
def test_sources_that_the_spec_gets_wrong(project: Write, source: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        load(project, source, {})
    assert says in str(caught.value)


def test_the_digest_covers_names_and_bytes(project: Write, tmp_path: Path) -> None:
    def digest(**files: bytes) -> Desired:
        loaded = load(
            project, "{path: 'data/*.csv', id: id}", {k.replace("__", "/") + ".csv": v for k, v in files.items()}
        )
        done = render_job(loaded.jobs[0], loaded.root, tmp_path / f"s{digest.count}")  # type: ignore[attr-defined]
        digest.count += 1  # type: ignore[attr-defined]
        for path in (loaded.root / "data").glob("*.csv"):
            path.unlink()
        return done

    digest.count = 0  # type: ignore[attr-defined]
    one, same = digest(data__a=b"id\n1\n"), digest(data__a=b"id\n1\n")
    renamed, split = digest(data__b=b"id\n1\n"), digest(data__a=b"id\n1\n", data__b=b"id\n")
    assert one.pins.input_digest == same.pins.input_digest
    assert len({d.pins.input_digest for d in (one, renamed, split)}) == 3
    assert len({d.pins.requests for d in (one, renamed, split)}) == 1


QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = st.sampled_from([b'{"id": 1}', b"\n", b"\r", b",", b'"', b"[", b"]", b"{", b"}", b"\0", b"\xff", b"\xef\xbb\xbf", b"NaN",
                          b"1e999", b"id", b"\x1f\x8b", b"PAR1", b"(\xb5/\xfd", b"\\ud800", b"\xed\xa0\x80"])  # fmt: skip
BYTES = st.binary(max_size=60) | st.lists(PIECES | st.binary(max_size=4), max_size=20).map(b"".join)


@QUIET
@given(BYTES, st.sampled_from(["jsonl", "json", "csv", "tsv", "jsonl.gz", "csv.zst", "txt"]),
       st.sampled_from(["utf-8", "latin-1", "utf-16"]), st.sampled_from(["", ", limit: 1", ", sample: {n: 1}"]),
       st.sampled_from(["", ";", "\t", "|"]))  # fmt: skip
def test_any_bytes_are_rows_or_an_input_error(
    tmp_path: Path, data: bytes, suffix: str, encoding: str, some: str, mark: str
) -> None:
    for folder in ("specs", "data"):
        (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / f"data/a.{suffix}").write_bytes(data)
    source = "text" if suffix == "txt" else "path"
    between = f", delimiter: {orjson.dumps(mark).decode()}" if mark and source == "path" else ""
    spec = SPEC.replace("{INPUT}", f"{{{source}: data/a.{suffix}, encoding: {encoding}{some}{between}}}")
    (tmp_path / "specs/a.yaml").write_text(spec)
    loaded = load_project(tmp_path, variables={}, provider="local", environ={})
    with contextlib.suppress(InputError):
        render_job(loaded.jobs[0], tmp_path, tmp_path / "scratch")
