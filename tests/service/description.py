"""The vendor's API description, where there is a copy, and whether answers are what it says.

The copy is named by BATCHSPEC_OPENAPI, or lies at shared/reference/ beside the checkout. It is not part of this
repository. What is let through though the description has it otherwise stands in EXCEPTIONS, and in
docs/service-exceptions.md with its reason.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import httpx
import jsonschema

Json = dict[str, Any]

_USUAL = Path(__file__).parents[2].parent / "shared" / "reference" / "digitalocean-batch-openapi.json"
PATH = Path(os.environ.get("BATCHSPEC_OPENAPI", _USUAL))
WHY_NOT = f"there is no copy of the vendor's API description at {PATH}; BATCHSPEC_OPENAPI names another place"

EXCEPTIONS = {
    "queued": "status of a job",
    "made-up-status": "status of a job",
}
"""Name in docs/service-exceptions.md → what it is about."""

_MADE_UP = "paused"
"""The status that the fault unknown-status shows in the tests."""


def load() -> Json | None:
    """The description with its exceptions put in; None where there is no copy."""
    if not PATH.is_file():
        return None
    loaded: Json = json.loads(PATH.read_text(encoding="utf-8"))
    _let_in(loaded, ["queued"])
    return loaded


def _let_in(node: Any, statuses: list[str]) -> None:
    """Add statuses to every enumeration of them."""
    if isinstance(node, dict):
        if "validating" in node.get("enum", ()) and not set(statuses) <= set(node["enum"]):
            node["enum"] += statuses
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            _let_in(item, statuses)


def _as_json_schema(schema: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable` becomes a type."""
    if isinstance(schema, list):
        return [_as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: _as_json_schema(value) for name, value in schema.items() if name not in {"nullable", "example"}}
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") else converted


class Checks:
    """Checks each answer against what the description has for its operation and status; a hook of httpx."""

    def __init__(self, description: Json) -> None:
        self._paths = description["paths"]
        self.seen: set[tuple[str, str, int]] = set()

    def __call__(self, reply: httpx.Response) -> None:
        path, method = reply.request.url.path, reply.request.method.lower()
        template = next((known for known in self._paths if _matches(known, path)), None)
        if template is None or method not in self._paths[template]:
            return
        reply.read()
        assert reply.headers["content-type"] == "application/json", reply.headers
        schema = self._schema(template, method, reply.status_code)
        schema.validate(reply.json())
        for name in ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"):
            assert reply.headers.get(name, "0").isdigit()
        self.seen.add((method, template, reply.status_code))

    @functools.cache  # noqa: B019 - as long-lived as the tests
    def _schema(self, template: str, method: str, status: int) -> Any:
        responses = self._paths[template][method]["responses"]
        wanted = responses.get(str(status)) or responses["default"]
        schema = _as_json_schema(wanted["content"]["application/json"]["schema"])
        _let_in(schema, [_MADE_UP])
        return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def _matches(template: str, path: str) -> bool:
    parts, known = path.split("/"), template.split("/")
    return len(parts) == len(known) and all(
        have == want or want.startswith("{") for have, want in zip(parts, known, strict=True)
    )


@functools.cache
def checks() -> Checks | None:
    """The checks of this test run; None where there is no copy of the description."""
    description = load()
    return Checks(description) if description else None
