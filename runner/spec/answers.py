"""`schema:` - the JSON Schema that a job's answers must fit: read, checked, and as the field that a request has for it.

Fields as their vendors describe them in November 2026: `response_format` (OpenAI, chat completions), `text.format`
(OpenAI, responses), `output_config.format` (Anthropic, messages).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.errors import TrustError
from runner.spec.models import Job
from runner.spec.trust import inside

MAX_BYTES = 1_000_000
"""The largest schema file."""
MAX_DEPTH = 60


class BadSchema(Exception):
    """The file is no JSON Schema that can be used; the message says why."""


def read_schema(root: Path, path: str) -> dict[str, Any]:
    """The schema in a file of the project. Raises BadSchema."""
    try:
        found = inside(root, path)
        if not found.is_file():
            raise BadSchema(f"there is no schema {path}")
        if found.stat().st_size > MAX_BYTES:
            raise BadSchema(f"{path} is larger than {MAX_BYTES} bytes")
        schema = json.loads(
            found.read_bytes().decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except TrustError as error:
        raise BadSchema(error.message) from error
    except OSError as error:
        raise BadSchema(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise BadSchema(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg.lower()}") from error
    except (ValueError, RecursionError) as error:
        raise BadSchema(f"{path}: {error}") from error
    if not isinstance(schema, dict):
        raise BadSchema(f'{path} must hold a JSON object, such as {{"type": "object", …}}')
    _check(path, schema)
    return schema


def with_schema(job: Job, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """The request's parameters, with the field that asks for answers that fit the schema."""
    if schema is None:
        return job.parameters
    asked = {"type": "json_schema", "schema": schema}
    if not job.url:
        return {**job.parameters, "output_config": {**job.parameters.get("output_config", {}), "format": asked}}
    named = {"name": _name(job.answer_schema or ""), "schema": schema, "strict": is_strict(schema)}
    if job.url == "/v1/responses":
        form = {"type": "json_schema", **named}
        return {**job.parameters, "text": {**job.parameters.get("text", {}), "format": form}}
    return {**job.parameters, "response_format": {"type": "json_schema", "json_schema": named}}


def taken_by_schema(job: Job) -> tuple[str, ...] | None:
    """The path of a parameter that says what `schema` says; None where there is none."""
    if job.url == "/v1/chat/completions":
        return ("response_format",) if "response_format" in job.parameters else None
    outer = "text" if job.url else "output_config"
    value = job.parameters.get(outer)
    return (outer, "format") if isinstance(value, Mapping) and "format" in value else None


def is_strict(schema: Any) -> bool:
    """Whether OpenAI can hold a model to this schema: each object closed, and all of its properties required."""
    for node in _nodes(schema):
        if node.get("type") == "object" or "properties" in node:
            properties = node.get("properties", {})
            if node.get("additionalProperties") is not False or not isinstance(properties, dict):
                return False
            if set(node.get("required", ())) != set(properties):
                return False
    return isinstance(schema, dict) and schema.get("type") == "object"


def _check(path: str, schema: dict[str, Any]) -> None:
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415  only jobs with a schema need it
    from jsonschema.validators import Draft202012Validator, validator_for  # noqa: PLC0415

    for node in _nodes(schema):
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            if key in node and not str(node[key]).startswith("#"):
                raise BadSchema(f"{path}: {key} {str(node[key])[:80]} leads to another file; write it into `$defs`")
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        where = "".join(f"/{part}" for part in error.absolute_path) or "/"
        raise BadSchema(f"{path} is no valid JSON Schema: at {where}: {error.message[:200]}") from error
    except RecursionError as error:
        raise BadSchema(f"{path} is nested too deep") from error


def _nodes(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > MAX_DEPTH:
        raise BadSchema(f"the schema is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _nodes(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item, depth + 1)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:60]} stands twice in an object")
        found[key] = value
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"JSON has no {text}")


def _name(path: str) -> str:
    stem = Path(path).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:64] or "answer"
