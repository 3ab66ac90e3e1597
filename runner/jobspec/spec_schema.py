"""JSON Schemas (draft-07) of specs and settings, for editors, made from the models."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from runner.jobspec.models import CLAUDE, Job
from runner.jobspec.parameters import parameters_schema
from runner.jobspec.settings import Settings

_PATH = r"^(?!/)(?!(.*/)?\.\.(/|$))"
_WRITTEN = {"pattern": r"\.(jsonl|csv|parquet)(\.(gz|zst))?$"}
_PATHS = {"Input": ("path", "text"), "Output": ("path", "errors"), "TemplateRef": ("template",)}


def _one_of(*names: str) -> dict[str, Any]:
    return {"anyOf": [{"required": [name]} for name in names]}


# Rules across fields, if a schema can express them.
_RULES: dict[str, dict[str, Any]] = {
    "Input": {
        "oneOf": [{"required": [name]} for name in ("path", "text", "rows", "sql")],
        "not": {"required": ["limit", "sample"]},
    },
    "Prompt": {
        "oneOf": [{"required": ["user"]}, {"required": ["messages"]}],
        "not": {"required": ["system", "messages"]},
    },
    "MaxInFlight": _one_of("shards", "tokens"),
    "BudgetLimits": _one_of("max_cost_usd", "max_requests", "max_tokens"),
    "Matrix": {"minProperties": 1},
    "Output": {"anyOf": [{"required": ["format"]}, {"properties": {"path": _WRITTEN}}]},
}
_ANTHROPIC = {
    "if": {
        "properties": {"model": {"pattern": CLAUDE.pattern}},
        "required": ["model"],
        "not": _one_of("format", "matrix"),
    },
    "then": {
        "not": {"required": ["endpoint"]},
        "properties": {"parameters": {"required": ["max_tokens"]}},
        "required": ["parameters"],
    },
}


def json_schema() -> dict[str, Any]:
    """Return the schema of one job of a spec file."""
    schema = _draft07(Job, "A Batchspec job")
    schema["properties"]["parameters"]["properties"] = parameters_schema()
    schema["allOf"] = [_ANTHROPIC]
    # The model may be an axis of the matrix instead.
    schema["required"].remove("model")
    in_matrix = {"anyOf": [{"required": ["model"]}, {"required": ["include"]}]}
    schema["anyOf"] = [
        {"required": ["model"]},
        {"required": ["matrix"], "properties": {"matrix": in_matrix}},
    ]
    return schema


def schema_text(schema: dict[str, Any]) -> str:
    """Return a schema as the text of a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def settings_schema() -> dict[str, Any]:
    """Return the schema of batchspec.yaml."""
    return _draft07(Settings, "Batchspec settings")


def _draft07(model: type[BaseModel], title: str) -> dict[str, Any]:
    text = json.dumps(model.model_json_schema()).replace("#/$defs/", "#/definitions/")
    schema: dict[str, Any] = json.loads(text)
    definitions = schema.pop("$defs", {})
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": title}
    if definitions:
        schema["definitions"] = definitions
    _tidy(schema)
    for name, rules in _RULES.items():
        definitions.get(name, {}).update(rules)
    for name, fields in _PATHS.items():
        for field in fields if name in definitions else ():
            _strings(definitions[name]["properties"][field])["pattern"] = _PATH
    return schema


def _strings(field: dict[str, Any]) -> dict[str, Any]:
    return next((part for part in field.get("anyOf", ()) if part.get("type") == "string"), field)


def _tidy(node: Any) -> None:
    """Remove what draft-07 does not know or what clutters an editor's hints."""
    if isinstance(node, list):
        for item in node:
            _tidy(item)
        return
    if not isinstance(node, dict):
        return
    node.pop("discriminator", None)
    if isinstance(node.get("title"), str) and "$schema" not in node:
        del node["title"]  # pydantic's titles only repeat the key
    # draft-07 ignores everything next to a $ref, so a description needs an allOf.
    if "$ref" in node and len(node) > 1:
        node["allOf"] = [{"$ref": node.pop("$ref")}]
    for value in node.values():
        _tidy(value)
