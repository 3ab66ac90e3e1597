"""The JSON Schemas that stand in the repository: fresh, whole, and of one mind with the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from runner.spec.schema import json_schema, schema_text, settings_schema
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
def test_the_examples_fit(path: Any) -> None:
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
