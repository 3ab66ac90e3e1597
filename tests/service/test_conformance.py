"""Every answer against the vendor's API description, where a copy of it lies beside the checkout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest

from tests.service.conftest import Caller, Json, Serve, chat, message

DESCRIPTION = Path(__file__).parents[2].parent / "shared" / "reference" / "digitalocean-batch-openapi.json"

GUIDE_STATUSES = ("queued",)
"""The one exception: the guide has this state, the description has not."""


@pytest.fixture(scope="module")
def description() -> Json:
    if not DESCRIPTION.exists():
        pytest.skip(f"no copy of the API description at {DESCRIPTION}")
    loaded: Json = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return loaded


def as_json_schema(schema: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable` becomes a type, and the guide's states are let in."""
    if isinstance(schema, list):
        return [as_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: as_json_schema(value) for name, value in schema.items() if name not in {"nullable", "example"}}
    if "validating" in converted.get("enum", ()):
        converted["enum"] = [*converted["enum"], *GUIDE_STATUSES]
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") else converted


class Checked:
    """Checks each answer against what the description has for its operation and status."""

    def __init__(self, description: Json) -> None:
        self._paths = description["paths"]
        self.seen: set[tuple[str, str, int]] = set()

    def __call__(self, reply: httpx.Response) -> None:
        path = reply.request.url.path
        template = next((known for known in self._paths if self._matches(known, path)), None)
        if template is None:
            return
        method = reply.request.method.lower()
        responses = self._paths[template][method]["responses"]
        wanted = responses.get(str(reply.status_code)) or responses["default"]
        schema = as_json_schema(wanted["content"]["application/json"]["schema"])
        reply.read()
        assert reply.headers["content-type"] == "application/json"
        jsonschema.validate(reply.json(), schema, format_checker=jsonschema.FormatChecker())
        self.seen.add((method, template, reply.status_code))

    @staticmethod
    def _matches(template: str, path: str) -> bool:
        parts, known = path.split("/"), template.split("/")
        return len(parts) == len(known) and all(
            have == want or want.startswith("{") for have, want in zip(parts, known, strict=True)
        )


@pytest.fixture
def checked(serve: Serve, description: Json) -> Iterator[tuple[Caller, Checked]]:
    api = serve(token="t", tokens=("t",), answer_delay=0.05)
    check = Checked(description)
    api.http.event_hooks["response"].append(check)
    yield api, check


def test_every_answer_is_what_the_description_says(checked: tuple[Caller, Checked]) -> None:
    """All six operations with their successes and the errors that can be had."""
    api, check = checked
    for lines in ([chat("a"), chat("b", max_tokens=-1)], [message("a")], b"nonsense\n"):
        batch = api.run(lines)
        api.http.get(f"/v1/batches/{batch['id']}/results")
    slow = api.submit([chat(f"r{index}") for index in range(100)], request_id="x", metadata={"a": "b"})
    api.http.get(f"/v1/batches/{slow['id']}/results")
    api.until(slow["id"], lambda now: now["status"] == "in_progress")
    api.http.get("/v1/batches")
    api.cancel(slow["id"])
    api.ended(slow["id"])
    api.cancel(slow["id"])
    for path in (f"/v1/batches/{uuid4()}", f"/v1/batches/{uuid4()}/results"):
        api.http.get(path)
        api.http.get(path, headers={"authorization": "no"})
    api.cancel(str(uuid4()))
    api.create(str(uuid4()))
    api.create(api.intent()["file_id"])
    api.create(api.upload([chat("other")]), request_id="x")
    api.create(slow["file_id"], provider="mistral")
    api.http.post("/v1/batches/files", json={"file_name": "x"})
    api.http.post("/v1/batches/files", content=b"{")
    api.http.get("/v1/batches", params={"after": slow["id"], "limit": 1})
    api.http.get("/v1/batches", params={"limit": 0})
    assert check.seen >= {
        ("post", "/v1/batches/files", 201),
        ("post", "/v1/batches/files", 400),
        ("post", "/v1/batches/files", 422),
        ("post", "/v1/batches", 201),
        ("post", "/v1/batches", 400),
        ("post", "/v1/batches", 404),
        ("post", "/v1/batches", 409),
        ("post", "/v1/batches", 422),
        ("get", "/v1/batches", 200),
        ("get", "/v1/batches", 400),
        ("get", "/v1/batches/{batch_id}", 200),
        ("get", "/v1/batches/{batch_id}", 401),
        ("get", "/v1/batches/{batch_id}", 404),
        ("get", "/v1/batches/{batch_id}/results", 200),
        ("get", "/v1/batches/{batch_id}/results", 412),
        ("get", "/v1/batches/{batch_id}/results", 404),
        ("post", "/v1/batches/{batch_id}/cancel", 200),
        ("post", "/v1/batches/{batch_id}/cancel", 404),
        ("post", "/v1/batches/{batch_id}/cancel", 409),
    }


def test_the_descriptions_own_create_examples_are_taken(checked: tuple[Caller, Checked], description: Json) -> None:
    api, _ = checked
    content = description["paths"]["/v1/batches"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        body = {**example["value"], "file_id": api.upload([chat("a")])}
        assert api.http.post("/v1/batches", json=body).status_code == 201
