"""The JSON Schemas that stand in the repository: fresh, whole, and of one mind with the models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from runner.jobspec.spec_schema import json_schema, schema_text, settings_schema
from tests.conftest import REPOSITORY, SPEC

SCHEMAS = {"spec": json_schema(), "settings": settings_schema()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_in_the_repository_is_fresh(name: str) -> None:
    """`make schemas` writes it."""
    standing = (REPOSITORY / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    assert standing == schema_text(SCHEMAS[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_draft_07(name: str) -> None:
    assert SCHEMAS[name]["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$defs" not in str(SCHEMAS[name])
    jsonschema.Draft7Validator.check_schema(SCHEMAS[name])


def objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "", schema
    yield from schema["definitions"].items()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_has_a_description_and_a_default_or_is_needed(name: str) -> None:
    schema = SCHEMAS[name]
    for where, model in objects(schema):
        for key, field in model["properties"].items():
            said = field.get("description") or schema["definitions"][field["$ref"].split("/")[-1]].get("description")
            assert said, f"{where}.{key} has no description"
            needed = key in model.get("required", ()) or (where, key) == ("", "model")
            assert needed or "default" in field, f"{where}.{key} has no default"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "specs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_fit(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        jsonschema.Draft7Validator(SCHEMAS["spec"]).validate(document)


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        pytest.param(("", ""), True, id="as it is"),
        pytest.param(("model: gpt-4o-mini", "matrix: {model: [a, b]}"), True, id="the model as an axis"),
        pytest.param(("model: gpt-4o-mini", "matrix: {temperature: [0, 1]}"), False, id="no model"),
        pytest.param(("name: hello", "nmae: hello"), False, id="an unknown key"),
        pytest.param(("version: 1", "version: 2"), False, id="another version"),
    ],
)
def test_it_says_what_the_models_say(change: tuple[str, str], fits: bool) -> None:
    value = yaml.safe_load(SPEC.replace(*change))
    assert jsonschema.Draft7Validator(SCHEMAS["spec"]).is_valid(value) is fits


# Broken specs with a fault that no schema can see. All others it must refuse, so that an editor underlines them; those
# whose YAML itself is at fault no schema ever meets.
BEYOND = {
    "in what a matrix makes": "bad-value doubled-value exclude-unknown excludes-all include-unknown one-output too-many "
    "unknown-axis value-out-of-range",
    "between a parameter and the endpoint": "max-tokens-of-responses parameter-of-another-vendor "
    "temperature-high-for-anthropic",
    "between two values": "moved-to-itself output-in-the-input output-over-the-input output-unknown-name "
    "partition-one-errors-file partition-one-output partition-without-value prompt-ends-with-assistant prompt-system-late",
    "between two jobs": "two-jobs-one-errors-file two-jobs-one-name two-jobs-one-output",
    "in other files and the environment": "output-hidden output-in-specs output-settings provider-unknown "
    "template-missing vars-file-missing vars-file-not-yaml webhook-foreign-variable",
    "in what a text says": "output-jinja tolerate-share webhook-not-https",
}
UNSEEN = {
    f"matrix-{name}" if "matrix" in reason else name for reason, names in BEYOND.items() for name in names.split()
}
MET = [
    path for path in sorted((REPOSITORY / "tests/jobspec/broken").glob("*.yaml")) if not path.stem.startswith("yaml-")
]


@pytest.mark.parametrize("path", MET, ids=lambda path: path.stem)
def test_it_refuses_what_a_schema_can_see(path: Path) -> None:
    validator = jsonschema.Draft7Validator(SCHEMAS["spec"])
    documents = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert all(validator.is_valid(document) for document in documents) is (path.stem in UNSEEN)


class DatesAsText(yaml.SafeLoader):
    """Reads dates as editors do: YAML 1.2 has none."""


def text_of(loader: DatesAsText, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


DatesAsText.add_constructor("tag:yaml.org,2002:timestamp", text_of)


def test_every_example_of_the_docs_fits() -> None:
    text = (REPOSITORY / "docs/spec.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```yaml (\S+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    for name, block in blocks.items():
        schema = SCHEMAS["settings" if name == "batchspec.yaml" else "spec"]
        for document in (
            yaml.load_all(block, yaml.BaseLoader) if name.startswith("vars/") else yaml.load_all(block, DatesAsText)
        ):
            for part in (document.get("retry"), document.get("notify")):
                if part and True in part:
                    part["on"] = part.pop(True)  # PyYAML takes the key for a boolean
            if not name.startswith("vars/"):
                jsonschema.Draft7Validator(schema).validate(document)


def test_known_parameters_are_described() -> None:
    """An editor completes them; whatever else stands there passes."""
    known = SCHEMAS["spec"]["properties"]["parameters"]["properties"]
    assert known["temperature"]["anyOf"] == [
        {"type": "number", "minimum": 0, "maximum": 2},
        {"type": "number", "minimum": 0, "maximum": 1},
    ]
    assert all(field["description"] for field in known.values())
    assert jsonschema.Draft7Validator(SCHEMAS["spec"]).is_valid(
        yaml.safe_load(SPEC.replace("max_tokens: 64", "something_new: {a: 1}"))
    )
