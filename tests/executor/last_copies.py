"""A job whose store is gone and whose results the service has deleted."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import httpx
import pytest
import zstandard

from runner.reconciler.observe.observe import ApplyOptions
from tests.executor.conftest import Team

Make = Callable[..., Team]
ASK = ApplyOptions(ask_unknown=frozenset({"job"}))
SPEC = """\
version: 1
name: job
provider: test
model: gpt-4o-mini
input: {path: data/rows.jsonl, id: id}
prompt: {user: "Say {{ text }}."}
output: %s
"""


def texts(path: Path) -> list[str]:
    """The texts in an output of any format."""
    match path.suffix:
        case ".parquet":
            return [
                text for (text,) in duckdb.connect().execute("select text from read_parquet(?)", [str(path)]).fetchall()
            ]
        case ".gz":
            data = gzip.decompress(path.read_bytes())
        case ".zst":
            data = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        case _:
            data = path.read_bytes()
    lines = data.decode().splitlines()
    rows = csv.DictReader(lines) if ".csv" in path.name else map(json.loads, lines)
    return [row["text"] for row in rows]


def forgotten(one: Team, monkeypatch: pytest.MonkeyPatch, output: str) -> Path:
    """A job that has run with three rows, of which only the output is left, and which has four rows now."""
    one.write("specs/job.yaml", SPEC % output)
    one.apply()
    forget(one, monkeypatch)
    one.rows("one", "two", "three", "four")
    return next((one.root / "out").iterdir())


def forget(one: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is thrown away, and the service has no results any more of what ran until now."""
    shutil.rmtree(one.root / ".batchspec")
    send = httpx.Client.send

    def forgetful(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        path = request.url.path
        if path.endswith("/results") and path.split("/")[-2] in old:
            return httpx.Response(404, json={"id": "not_found", "message": "gone"}, request=request)
        return send(self, request, **options)  # type: ignore[arg-type]

    old = {batch["batch_id"] for batch in one.remote()}
    monkeypatch.setattr(httpx.Client, "send", forgetful)


def asked(one: Team) -> int:
    return sum(batch["request_counts"]["total"] for batch in one.remote())


def held_against(one: Team, output: str, *more: str) -> None:
    """A job whose prompts are the rows' texts, which come back as answers: objects with two numbers, or they don't fit."""
    number = {"type": "integer"}
    schema = {"type": "object", "properties": {"n": number, "m": number}, "required": ["n", "m"]}
    one.write("schemas/n.json", json.dumps(schema))
    extra = "".join(f"{line}\n" for line in ("schema: schemas/n.json", *more))
    one.write("specs/job.yaml", (SPEC % output).replace("Say {{ text }}.", "{{ text }}") + extra)


FITS = [f'{{"n": {number}, "m": 0}}' for number in range(4)]
