"""Every answer is what the vendor's API description says, where a copy of it can be found.

The callers of all tests of the service check every answer they get; here the answers are brought about that no other
test needs, and schemathesis asks what nobody thought of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from runner.service import BackgroundService, ServiceConfig
from runner.service.http.rate_limit import Limit
from tests.service import description
from tests.service.conftest import Caller, Json, Serve, chat, message

FUZZ = bool(os.environ.get("BATCHSPEC_FUZZ"))
DOCS = Path(__file__).parents[2] / "docs" / "service-exceptions.md"


@pytest.fixture(scope="module")
def described() -> Json:
    loaded = description.load()
    if loaded is None:
        pytest.skip(description.WHY_NOT)
    return loaded


@pytest.fixture
def checked(serve: Serve, described: Json) -> Iterator[tuple[Caller, description.Checks]]:
    api = serve(token="t", tokens=("t",), answer_delay=0.05)
    check = description.Checks(described)
    api.http.event_hooks["response"].append(check)
    yield api, check


def test_every_exception_stands_in_the_docs() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name in description.EXCEPTIONS:
        assert f"| `{name}` |" in text


def test_every_answer_is_what_the_description_says(checked: tuple[Caller, description.Checks], serve: Serve) -> None:
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
    for path in (f"/v1/batches/{uuid4()}", f"/v1/batches/{uuid4()}/results", "/v1/batches"):
        api.http.get(path)
        api.http.get(path, headers={"authorization": "no"})
    for path in ("/v1/batches/files", "/v1/batches", f"/v1/batches/{uuid4()}/cancel"):
        api.http.post(path, headers={"authorization": "no"})
    api.cancel(str(uuid4()))
    api.create(str(uuid4()))
    api.create(api.intent()["file_id"])
    api.create(api.upload([chat("other")]), request_id="x")
    api.create(slow["file_id"], provider="mistral")
    api.http.post("/v1/batches/files", json={"file_name": "x"})
    api.http.post("/v1/batches/files", content=b"{")
    api.http.post("/v1/batches/files", json={"file_name": "x.jsonl", "file_size_in_bytes": 10**9})
    api.http.get("/v1/batches", params={"after": slow["id"], "limit": 1})
    api.http.get("/v1/batches", params={"limit": 0})
    api.stop()
    api = serve(rate_limits=(Limit(1, 600.0),))
    api.http.event_hooks["response"].append(check)
    api.http.get("/v1/batches")
    for path in ("/v1/batches/files", "/v1/batches", f"/v1/batches/{uuid4()}/cancel"):
        api.http.post(path)
    for path in ("/v1/batches", f"/v1/batches/{uuid4()}", f"/v1/batches/{uuid4()}/results"):
        api.http.get(path)
    wanted = {
        ("post", "/v1/batches/files"): {201, 400, 401, 413, 422, 429},
        ("post", "/v1/batches"): {201, 400, 401, 404, 409, 422, 429},
        ("get", "/v1/batches"): {200, 400, 401, 429},
        ("get", "/v1/batches/{batch_id}"): {200, 401, 404, 429},
        ("get", "/v1/batches/{batch_id}/results"): {200, 401, 404, 412, 429},
        ("post", "/v1/batches/{batch_id}/cancel"): {200, 401, 404, 409, 429},
    }
    missing = {(*operation, status) for operation, statuses in wanted.items() for status in statuses} - check.seen
    assert not missing


def test_the_descriptions_own_create_examples_are_taken(
    checked: tuple[Caller, description.Checks], described: Json
) -> None:
    api, _ = checked
    content = described["paths"]["/v1/batches"]["post"]["requestBody"]["content"]["application/json"]
    for example in content["examples"].values():
        line = message("a") if example["value"]["provider"] == "anthropic" else chat("a")
        body = {**example["value"], "file_id": api.upload([line])}
        assert api.http.post("/v1/batches", json=body).status_code == 201


def test_schemathesis_finds_no_5xx_and_nothing_undocumented(tmp_path: Path, described: Json) -> None:
    """Calls made from the description, by a fixed seed: some here, many with `make fuzz`.

    positive_data_acceptance is left out: a create of a file that was never uploaded is valid, and rightly refused.
    """
    phases, examples = ("examples,coverage,fuzzing,stateful", "200") if FUZZ else ("examples,fuzzing", "10")
    copy = tmp_path / "openapi.json"
    copy.write_text(json.dumps(described))
    with BackgroundService.start(ServiceConfig(data=tmp_path / "data", tokens=("t",))) as service:
        api = Caller(service.url, "t")
        api.run([chat("a")])
        api.close()
        program = Path(sys.executable).with_name("schemathesis")
        command = [
            *(str(program), "run", str(copy), "--url", service.url, "--header", "Authorization: Bearer t"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--phases", phases, "--max-examples", examples, "--seed", "1"),
            *("--no-color", "--warnings", "off", "--continue-on-failure"),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, timeout=3000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Operations:       6 selected" in done.stdout
