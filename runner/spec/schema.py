"""JSON Schemas (draft-07) of what people write, for editors; made from the models, so they can't disagree."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from runner.spec.models import Job
from runner.spec.settings import Settings


def json_schema() -> dict[str, Any]:
    """The schema of one job of a spec file."""
    schema = _draft07(Job, "A Batchspec job")
    # The model may be an axis of the matrix instead.
    schema["required"].remove("model")
    in_matrix = {"anyOf": [{"required": ["model"]}, {"required": ["include"]}]}
    schema["anyOf"] = [
        {"required": ["model"]},
        {"required": ["matrix"], "properties": {"matrix": in_matrix}},
    ]
    return schema


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as it stands in a file, with its line end."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def settings_schema() -> dict[str, Any]:
    """The schema of batchspec.yaml."""
    return _draft07(Settings, "Batchspec settings")


def _draft07(model: type[BaseModel], title: str) -> dict[str, Any]:
    text = json.dumps(model.model_json_schema()).replace("#/$defs/", "#/definitions/")
    schema: dict[str, Any] = json.loads(text)
    definitions = schema.pop("$defs", {})
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": title}
    if definitions:
        schema["definitions"] = definitions
    _tidy(schema)
    return schema


def _tidy(node: Any) -> None:
    """Leave out what draft-07 does not know or editors only clutter their hints with."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
        return
    if not isinstance(node, dict):
        return
    node.pop("discriminator", None)
    if isinstance(node.get("title"), str) and "$schema" not in node:
        del node["title"]  # pydantic's titles only repeat the key
    # draft-07 ignores everything beside a $ref, so a description there needs an allOf.
    if "$ref" in node and len(node) > 1:
        node["allOf"] = [{"$ref": node.pop("$ref")}]
    for value in node.values():
        _tidy(value)
