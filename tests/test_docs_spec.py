"""docs/spec.md: every field is in it, and every example runs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.jobspec.spec_schema import json_schema, settings_schema
from runner.planner.templates.environment import Templates
from runner.planner.templates.filters import FILTERS
from tests.cli_runner import run_cli
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "spec.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```[a-z]+ (\S+\.\S+)\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL))
VALUES = ["--provider", "local", "--var", "date=2026-11-23"]


def batchspec(root: Path, *arguments: str) -> str:
    done = run_cli(arguments, cwd=root, timeout=300, env={**os.environ, "BATCHSPEC_WEBHOOK_SECRET": "s"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    for name, text in BLOCKS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_every_example_is_planned(root: Path) -> None:
    batchspec(root, "validate")
    assert " to submit, " in batchspec(root, "plan", *VALUES)


@pytest.mark.slow
def test_every_example_is_applied(root: Path) -> None:
    batchspec(root, "apply", "--yes", *VALUES)
    assert "Nothing to do" in batchspec(root, "plan", *VALUES)
    outputs = [path for path in (root / ".batchspec/realms/local/out").rglob("*") if path.is_file()]
    jobs = sum(text.count("\nname: ") for name, text in BLOCKS.items() if name.startswith("specs/"))
    assert len(outputs) == jobs + 3 + 1 + 1  # three more jobs of the matrix, one more shop, and one file of failed rows


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


@pytest.mark.parametrize("schema", [json_schema(), settings_schema()], ids=["spec", "settings"])
def test_every_field_is_described(schema: dict[str, Any]) -> None:
    fields = {key for model in models(schema).values() for key in model["properties"]}
    missing = sorted(field for field in fields if not re.search(rf"[`{{ ]{field}\b[`:]", TEXT))
    assert not missing


def test_the_examples_use_every_field() -> None:
    """Also those deep inside: what stands in the docs has been planned and applied."""
    used: set[tuple[str, str]] = set()
    fields: set[tuple[str, str]] = set()
    for schema, files in ((json_schema(), "specs/"), (settings_schema(), "batchspec.yaml")):
        fields |= {(name, key) for name, model in models(schema).items() for key in model["properties"]}
        for name, text in BLOCKS.items():
            if name.startswith(files):
                for document in yaml.load_all(text, yaml.BaseLoader):
                    used |= set(fields_of(schema, schema["title"], document))
    # Graders share fields: one of them with a field is enough.
    fields, used = (
        {("Grader" if name.endswith("Grader") else name, key) for name, key in some} for some in (fields, used)
    )
    # These compare with a commit or restrict a gate: the examples have no git, and run no code. tests/evaluation/test_eval.py uses them.
    with_git = {("Gate", key) for key in ("against", "max_drop", "confident", "slice", "undecided")}
    assert fields - used == with_git | {("Evaluate", "against"), ("Grader", "file")}


def models(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    below = {name: model for name, model in schema["definitions"].items() if "properties" in model}
    return {schema["title"]: schema, **below}


def fields_of(schema: dict[str, Any], name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The fields that a value uses, each with its model."""
    properties = models(schema)[name]["properties"]
    for key in properties.keys() & (value.keys() if isinstance(value, dict) else ()):
        yield name, key
        inner = value[key]
        maps = isinstance(properties[key].get("additionalProperties"), dict) or "patternProp" in str(properties[key])
        mapped = isinstance(inner, dict) and maps
        several = list(inner.values()) if mapped else inner if isinstance(inner, list) else [inner]
        for model in named(properties[key]):
            told_by = [
                name for name in ("kind", "type") if "const" in models(schema)[model]["properties"].get(name, {})
            ]
            for one in several:
                if all(one[name] == models(schema)[model]["properties"][name]["const"] for name in told_by):
                    yield from fields_of(schema, model, one)


def named(node: Any) -> Iterator[str]:
    """Models that a field's schema names."""
    match node:
        case {"$ref": str(found)}:
            yield found.split("/")[-1]
        case dict():
            for value in node.values():
                yield from named(value)
        case list():
            for value in node:
                yield from named(value)
