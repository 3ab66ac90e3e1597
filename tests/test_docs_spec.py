"""docs/spec.md: every field is in it, and every example runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runner.planner.filters import FILTERS
from runner.planner.templates import Templates
from runner.spec.schema import json_schema
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "spec.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```[a-z]+ (\S+/\S+)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL))
VALUES = ["--provider", "local", "--var", "date=2026-11-23"]


def batchspec(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=root, capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "BATCHSPEC_WEBHOOK_SECRET": "s"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    for name, text in {"batchspec.yaml": "version: 1\nproject: docs\n", **BLOCKS}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_every_example_is_planned_and_applied(root: Path) -> None:
    batchspec(root, "validate")
    assert " to submit, 0 reused" in batchspec(root, "plan", *VALUES)
    batchspec(root, "apply", "--yes", *VALUES)
    assert "Nothing to do" in batchspec(root, "plan", *VALUES)
    outputs = [path for path in (root / ".batchspec/realms/local/out").rglob("*") if path.is_file()]
    jobs = sum(text.count("\nname: ") for name, text in BLOCKS.items() if name.startswith("specs/"))
    assert len(outputs) == jobs + 3 + 1  # three more jobs of the matrix, and one file of failed rows


def filter_examples() -> list[tuple[str, str]]:
    block = re.search(r"^```filters\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert block is not None
    return [(template, json.loads(out)) for template, out in (line.split(" -> ") for line in block[1].splitlines())]


@pytest.mark.parametrize(("template", "out"), filter_examples())
def test_a_filter_gives_what_its_example_says(template: str, out: str) -> None:
    templates = Templates(Path("/nowhere"), {})
    assert templates.compile_text(template, "example")(templates.namespace({})) == out


def test_every_filter_of_ours_has_an_example() -> None:
    named = {name for template, _ in filter_examples() for name in re.findall(r"\| (\w+)", template)}
    assert named == FILTERS.keys()


def test_every_field_is_described() -> None:
    schema = json_schema()
    fields = {key for model in (schema, *schema["definitions"].values()) for key in model["properties"]}
    missing = sorted(field for field in fields if not re.search(rf"[`{{ ]{field}\b[`:]", TEXT))
    assert not missing


def test_the_examples_use_every_field_of_a_job() -> None:
    documents = [d for n, text in BLOCKS.items() if n.startswith("specs/") for d in yaml.safe_load_all(text)]
    assert {key for document in documents for key in document} == set(json_schema()["properties"])
