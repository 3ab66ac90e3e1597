"""Outputs: JSON lines, CSV and parquet, packed or not; the fields that are asked for, in input order, the same bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from runner.errors import SpecError
from runner.jobspec.loader import load_project
from runner.outputs.formats import FORMULA
from tests.cli_runner import run_cli
from tests.conftest import SPEC
from tests.sampling import sampled

Write = Callable[..., Path]
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["label"],
}
ROWS = [
    {"id": 1, "text": '{"label": "a, \\"b\\"", "n": 1}'},
    {"id": 2, "text": "no"},
    {"id": 3, "text": '{"label": "é"}'},
]
HOME = ".batchspec/realms/local"


def files(output: str, more: str = "", tolerate: int = 1) -> dict[str, str]:
    spec = SPEC.replace('"Say {{ text }}."', '"{{ text }}"').replace(
        "output: {path: out/hello.jsonl}", f"output: {output}"
    )
    return {
        "specs/hello.yaml": f"{spec}schema: schemas/s.json\ntolerate: {tolerate}\n{more}",
        "schemas/s.json": json.dumps(SCHEMA),
        "data/rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    }


def apply(root: Path) -> None:
    done = run_cli(["apply", "--yes", "--provider", "local"], cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


def lines(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def written(project: Write, path: str, output: str = "", more: str = "", tolerate: int = 1) -> tuple[Path, bytes]:
    root = project(files(output or f"{{path: {path}}}", more, tolerate))
    apply(root)
    data = (root / HOME / path).read_bytes()
    apply(root)
    assert (root / HOME / path).read_bytes() == data
    (root / HOME / path).unlink()
    apply(root)
    assert (root / HOME / path).read_bytes() == data
    return root, data


def test_csv_is_flat(project: Write) -> None:
    _, data = written(project, "out/hello.csv")
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert list(rows[0]) == [
        "id", "text", "parsed.label", "parsed.n", "finish_reason", "refusal", "input_tokens", "output_tokens",
        "cached_tokens", "model", "error_code", "error_message", "request", "batch",
    ]  # fmt: skip
    assert [row["parsed.label"] for row in rows] == ['a, "b"', "", "é"]
    assert [row["parsed.n"] for row in rows] == ["1", "", ""]
    assert [row["error_code"] for row in rows] == ["", "invalid", ""]


def test_parquet_has_types(project: Write, tmp_path: Path) -> None:
    import duckdb

    _, data = written(project, "out/hello.parquet", "{path: out/hello.parquet, include: [parsed, usage, row.text]}")
    (tmp_path / "x.parquet").write_bytes(data)
    found = duckdb.sql(f"SELECT * FROM '{tmp_path / 'x.parquet'}'")
    assert found is not None
    assert found.columns == [
        "id",
        "parsed.label",
        "parsed.n",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "row.text",
    ]
    rows = found.fetchall()
    assert [(row[0], row[1], row[2]) for row in rows] == [("1", 'a, "b"', 1), ("2", None, None), ("3", "é", None)]
    assert rows[1][6] == "no"


@pytest.mark.parametrize("suffix", sampled([".gz", ".zst"], 1))
def test_packed(project: Write, suffix: str) -> None:
    _, data = written(project, f"out/hello.jsonl{suffix}")
    plain = gzip.decompress(data) if suffix == ".gz" else zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert [row["id"] for row in lines(plain)] == [1, 2, 3]


def test_fields_are_chosen(project: Write) -> None:
    _, data = written(project, "out/hello.jsonl", "{path: out/hello.jsonl, include: [row, text, parsed.label, error]}")
    rows = lines(data)
    assert list(rows[0]) == ["id", "row", "text", "parsed", "error"]
    assert [row["row"] for row in rows] == ROWS
    assert [row["parsed"] for row in rows] == [{"label": 'a, "b"'}, {"label": None}, {"label": "é"}]


def test_failed_rows_may_stand_apart(project: Write) -> None:
    root, data = written(project, "out/hello.jsonl", "{path: out/hello.jsonl, errors: out/failed.jsonl}")
    assert [row["id"] for row in lines(data)] == [1, 3]
    apart = lines((root / HOME / "out/failed.jsonl").read_bytes())
    assert [(row["id"], row["error"]["code"]) for row in apart] == [(2, "invalid")]


def test_an_output_without_all_fields_is_no_proof_of_answers(project: Write) -> None:
    """With the store thrown away the answers come from the service again, whole; nothing is asked again."""
    import shutil

    root = project(files("{path: out/hello.jsonl, include: [text, request, batch]}"))
    apply(root)
    shutil.rmtree(root / HOME / "store")
    done = run_cli(["plan", "--offline", "--provider", "local"], cwd=root, check=True)
    assert "< fetch  batch" in done.stdout
    assert "Plan: 0 to submit, 0 reused" in done.stdout


def test_replicates_have_a_column(project: Write) -> None:
    _, data = written(
        project, "out/hello.csv", "{path: out/hello.csv, include: [text]}", "replicates: 2\nretry: {rounds: 1}\n", 2
    )
    assert data.splitlines()[0] == b"id,replicate,text"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        pytest.param("{path: out/x.txt}", "must end in .jsonl, .csv or .parquet", id="suffix"),
        pytest.param("{path: out/x.parquet.gz}", "parquet is already compressed", id="packed twice"),
        pytest.param("{path: out/x.jsonl, cells: safe}", "`cells` is for csv", id="cells of lines"),
        pytest.param("{path: out/x.parquet, cells: safe}", "`cells` is for csv", id="cells of parquet"),
        pytest.param("{path: out/x.csv, include: [row]}", "one by one: row.NAME", id="row in csv"),
        pytest.param("{path: out/x.csv, include: [txt]}", "txt is not a field of an output", id="unknown field"),
        pytest.param("{path: out/x.csv, include: [text, text]}", "a field is repeated", id="twice"),
        pytest.param("{path: out/x.csv, errors: out/e.csv}", "`errors` must end in .jsonl", id="errors as csv"),
        pytest.param("{path: out/x.jsonl, errors: out/x.jsonl}", "`errors` would replace the output", id="one file"),
        pytest.param("{path: out/x.jsonl, errors: ../e.jsonl}", "`..`", id="errors outside"),
        pytest.param("{path: out/x, format: xml}", "allowed: 'jsonl', 'csv' or 'parquet'", id="format"),
    ],
)
def test_outputs_that_the_spec_gets_wrong(project: Write, output: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_project(project(files(output)), variables={}, provider="local", environ={})
    assert says in str(caught.value)


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\n=x", "\uff1dx", "'=1", "plain", "a=b", ""]


@pytest.mark.parametrize("path", sampled(["out/hello.csv", "out/hello.csv.zst"], 1))
def test_cells_that_are_safe_in_a_spreadsheet_are_read_back_as_they_were(project: Write, path: str) -> None:
    texts = [f"{text} {number}" if text else "x" for number, text in enumerate(FORMULAS)]
    rows = "".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))
    output = f"{{path: {path}, cells: safe}}"
    spec = SPEC.replace('"Say {{ text }}."', '"{{ text }}"').replace("{path: out/hello.jsonl}", output)
    root = project({"specs/hello.yaml": spec, "data/rows.jsonl": rows})
    apply(root)
    data = (root / HOME / path).read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read() if path.endswith("zst") else data
    assert plain.startswith(b"\xef\xbb\xbf")
    cells = [row["text"] for row in csv.DictReader(io.StringIO(plain.decode("utf-8-sig"), newline=""))]
    assert not [cell for cell in cells if cell.startswith(FORMULA)]
    from runner.outputs.reader import output_rows

    [job] = load_project(root, variables={}, provider="local", environ={}).jobs
    assert [(row or {})["text"] for row in output_rows(root / HOME / path, job.job.output)] == texts

    # With the store and the service's results gone, the answers come back from the output.
    import shutil

    for folder in (root / HOME).iterdir():
        if folder.name in {"results", "shards", "index"}:
            shutil.rmtree(folder)
    apply(root)
    assert (root / HOME / path).read_bytes() == data
    done = run_cli(["verify", "--provider", "local"], cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_an_output_is_written_again_where_its_cells_are_to_be_safe(project: Write) -> None:
    root, before = written(project, "out/hello.csv")
    text = (root / "specs/hello.yaml").read_text()
    (root / "specs/hello.yaml").write_text(text.replace("{path: out/hello.csv}", "{path: out/hello.csv, cells: safe}"))
    apply(root)
    assert (root / HOME / "out/hello.csv").read_bytes() == b"\xef\xbb\xbf" + before
