"""The Python API: the guide's full example with only import and constructor changed, and load, plan, apply."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import runner
from runner.errors import Rejected, TrustError, Unauthorized, Unreachable
from runner.service import BackgroundService, ServiceConfig
from tests.providers.stub import KEY, Stub
from tests.providers.stub_steps import Lost, Reply, Reset

# The vendor's full example (guide, 27 Apr 2026) in our words where words are free; every call is as printed there.
EXAMPLE = """\
import json, os, time
import requests
from runner import Client

client = Client(api_key=os.environ["GRADIENT_API_KEY"])
my_prompts = ["one", "two"]
with open("prompts.jsonl", "w") as f:
    for i, prompt in enumerate(my_prompts):
        f.write(json.dumps({
            "custom_id": f"req-{i}", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}], "max_tokens": 256},
        }) + "\\n")
upload_info = client.batches.files.create(
    file_name="prompts.jsonl", file_size_in_bytes=os.path.getsize("prompts.jsonl"))
with open("prompts.jsonl", "rb") as f:
    requests.put(upload_info.upload_url, data=f, headers={"Content-Type": "application/jsonl"})
batch = client.batches.create(
    file_id=upload_info.file_id, model="gpt-4o-mini", completion_window="24h",
    parameters={"temperature": 0.0, "max_tokens": 256})
while True:
    batch = client.batches.retrieve(batch.id)
    print(f"[{batch.status}] {batch.request_counts.completed}/{batch.request_counts.total} complete")
    if batch.status in ("completed", "failed", "expired", "cancelled"):
        break
    time.sleep(0.1)
if batch.status == "completed":
    result_info = client.batches.results(batch.id)
    output = requests.get(result_info.output_url)
    results = {}
    for line in output.text.strip().split("\\n"):
        record = json.loads(line)
        if record["error"] is None:
            results[record["custom_id"]] = record["response"]["choices"][0]["message"]["content"]
    print(f"Downloaded {len(results)} results.", sorted(results.items()))
for batch in client.batches.list():
    print(batch.id, batch.status, batch.created_at)
"""


def test_the_guides_example_runs(tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(EXAMPLE)
    service = BackgroundService.start(ServiceConfig(data=tmp_path / "data", tokens=("secret",)))
    try:
        environ = {**os.environ, "GRADIENT_API_KEY": "secret", "BATCHSPEC_BASE_URL": service.url}
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        service.stop()
    assert done.returncode == 0, done.stderr
    assert "Downloaded 2 results. [('req-0', 'one'), ('req-1', 'two')]" in done.stdout


def test_a_key_is_not_sent_to_a_stranger() -> None:
    with pytest.raises(TrustError):
        runner.Client(api_key="secret", base_url="https://evil.example")


def test_load_plan_apply_do_what_the_commands_do(project: Callable[..., Path]) -> None:
    loaded = runner.load(root=project(), paths=[project() / "specs"], provider="local")
    assert [job.submits for job in runner.plan(loaded).jobs] == [3]
    [outcome] = runner.apply(loaded)
    assert (outcome.end, outcome.submitted) == ("succeeded", 3)
    assert not runner.plan(loaded).changes


# ------------------------------------------------------------------------------------------- the client against troubles


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture(params=["guide", "openapi", "godo"])
def world(request: pytest.FixtureRequest, naps: list[float]) -> Iterator[tuple[Stub, runner.Client]]:
    """A stub in each dialect, and a client of it that does not really wait."""
    with Stub(request.param) as stub, runner.Client(KEY, base_url=stub.url, sleep=naps.append) as client:
        yield stub, client


def upload(stub: Stub, client: runner.Client) -> str:
    """As the guide does it: PUT by any means, without the key."""
    info = client.batches.files.create(file_name="prompts.jsonl", file_size_in_bytes=21)
    assert httpx.put(info.upload_url, content=b'{"custom_id": "k-1"}\n', trust_env=False).status_code == 200
    return info.file_id


ORDER: dict[str, Any] = {"provider": "openai", "endpoint": "/v1/responses"}


def test_the_guides_calls_in_every_dialect(world: tuple[Stub, runner.Client]) -> None:
    stub, client = world
    batch = client.batches.create(file_id=upload(stub, client), **ORDER)
    while batch.status not in {"completed", "failed", "expired", "cancelled"}:
        batch = client.batches.retrieve(batch.id)
    assert (batch.request_counts.completed, batch.request_counts.total) == (1, 1)
    info = client.batches.results(batch.id)
    assert info.output_url is not None
    assert httpx.get(info.output_url, trust_env=False).text.startswith('{"custom_id": "k-1"')
    assert [each.id for each in client.batches.list()] == [batch.id]
    assert batch.raw["status"] == "completed"


@pytest.mark.parametrize(
    "step", [Lost(), Reply(502, b"<html>bad gateway</html>"), Reply(201, b"{"), Reset(after=9999)], ids=repr
)
def test_a_create_whose_answer_is_lost_makes_one_job(world: tuple[Stub, runner.Client], step: Any) -> None:
    """It is looked for in the list, and sent again with the same key where it is not there."""
    stub, client = world
    file_id = upload(stub, client)
    stub.on("POST", "/v1/batches", step)
    client.batches.create(file_id=file_id, **ORDER)
    assert len(stub.jobs) == 1
    assert len({seen.json["request_id"] for seen in stub.calls("POST", "/v1/batches")}) == 1


def test_a_create_that_stays_lost_says_how_to_find_it(world: tuple[Stub, runner.Client]) -> None:
    stub, client = world
    stub.on("POST", "/v1/batches", *[Reset()] * 9)
    with pytest.raises(Unreachable) as caught:
        client.batches.create(file_id="f-1", request_id="rid-1", **ORDER)
    assert any("request_id rid-1" in note for note in caught.value.__notes__)
    assert len(stub.calls("POST", "/v1/batches")) == 5


def test_a_webhook_s_secret_shows_in_no_error(world: tuple[Stub, runner.Client]) -> None:
    stub, client = world
    stub.on("POST", "/v1/batches", Reply(400, {"id": "bad", "message": "whsec-123 is no secret"}))
    with pytest.raises(Rejected) as caught:
        client.batches.create(file_id="f-1", webhook={"url": "https://h", "secret": "whsec-123"}, **ORDER)
    assert "whsec-123" not in str(caught.value)


def test_a_client_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unauthorized) as caught:
        runner.Client()
    assert "MODEL_ACCESS_KEY" in caught.value.hint
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "secret")
    with runner.Client() as client:
        assert "inference.do-ai.run" in repr(client)
        assert "secret" not in repr(client)
