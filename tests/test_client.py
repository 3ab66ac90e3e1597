"""The Python API: the guide's full example with only import and constructor changed, and load, plan, apply."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import runner
from runner.errors import TrustError
from runner.service import BackgroundService, ServiceConfig

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
