"""`schema:` - the JSON Schema of a job's answers.

Vendors' fields (November 2026): `response_format` (OpenAI, chat completions), `text.format` (OpenAI, responses),
`output_config.format` (Anthropic, messages).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.base import lfs
from runner.base.repository_paths import TooLarge, check_ignored, read_inside
from runner.errors import TrustError
from runner.jobspec.models import Job
from runner.jobspec.strict_json import parse_strict

MAX_BYTES = 200_000
"""The largest schema file, in bytes."""


class BadSchema(Exception):
    """The file is not a usable JSON Schema."""


def read_schema(root: Path, path: str) -> dict[str, Any]:
    """Read a schema file of the project. Raises BadSchema."""
    try:
        check_ignored(root, path)
        data = read_inside(root, path, MAX_BYTES)
        if lfs.is_pointer(data):
            raise BadSchema(lfs.message(path))
        schema = parse_strict(data.decode("utf-8-sig"), no_duplicate_keys=True)
    except TrustError as error:
        raise BadSchema(error.message) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadSchema(f"there is no schema {path}") from error
    except TooLarge as error:
        raise BadSchema(f"{path} is larger than {MAX_BYTES} bytes") from error
    except OSError as error:
        raise BadSchema(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise BadSchema(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg.lower()}") from error
    except ValueError as error:
        raise BadSchema(f"{path}: {error}") from error
    if not isinstance(schema, dict):
        raise BadSchema(f'{path} must hold a JSON object, such as {{"type": "object", …}}')
    _check(path, schema)
    return schema


def with_schema(job: Job, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the request's parameters, including the schema."""
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
    """Return the path of a parameter that conflicts with `schema`, if any."""
    if job.url == "/v1/chat/completions":
        return ("response_format",) if "response_format" in job.parameters else None
    outer = "text" if job.url else "output_config"
    value = job.parameters.get(outer)
    return (outer, "format") if isinstance(value, Mapping) and "format" in value else None


def is_strict(schema: Any) -> bool:
    """Return whether OpenAI can enforce this schema: all objects closed, all properties required."""
    from runner.jobspec.schema_validator import schemas  # noqa: PLC0415  only jobs with a schema need it

    for node in schemas(schema):
        if node.get("type") == "object" or "properties" in node:
            properties = node.get("properties", {})
            if node.get("additionalProperties") is not False or not isinstance(properties, dict):
                return False
            if set(node.get("required", ())) != set(properties):
                return False
    return isinstance(schema, dict) and schema.get("type") == "object"


def _check(path: str, schema: dict[str, Any]) -> None:
    from runner.jobspec.schema_validator import SchemaValidator, UnsupportedSchema  # noqa: PLC0415  only jobs with a schema need it

    try:
        SchemaValidator(schema)
    except UnsupportedSchema as error:
        raise BadSchema(f"{path} is not a usable JSON Schema: {error}") from error


def _name(path: str) -> str:
    stem = Path(path).name.split(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:64] or "answer"
