"""The guide's curl commands against `batchspec serve`, in a shell, as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli_runner import cli_path, run_cli
from tests.service.conftest import chat, jsonl
from tests.service.receiver import serve_receiver

SCRIPT = Path(__file__).with_name("guide.sh")
KEY = "model-access-key"


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """`batchspec serve` as a process; its URL."""
    serve = [cli_path(), "serve", "--data", str(folder / "data"), *options]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, cwd=folder) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip()
        finally:
            running.terminate()
            running.wait()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_guides_curl_commands(tmp_path: Path) -> None:
    """Every one of them succeeds and shows what the guide shows."""
    (tmp_path / "prompts.jsonl").write_bytes(
        jsonl([chat(f"req-{index}", f"Prompt {index}", model="gpt-4o-mini") for index in range(40)])
    )
    with (
        serve_receiver() as receiver,
        serving(tmp_path, "--token", KEY, "--answer-delay", "1s", "--webhook-allow", "loopback") as url,
    ):
        environment = {**os.environ, "HOST": url, "MODEL_ACCESS_KEY": KEY, "WEBHOOK_URL": receiver.url}
        done = subprocess.run(
            ["sh", str(SCRIPT)], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (done.stdout, done.stderr, (tmp_path / "batch.json").read_text())

    def read(name: str) -> Any:
        return json.loads((tmp_path / name).read_text())

    assert read("created.json")["status"] == "validating"
    assert read("created.json")["model"] == "gpt-4o-mini"
    assert read("created.json")["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    completed = read("completed.json")
    assert (completed["status"], completed["result_available"]) == ("completed", True)
    assert completed["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
    assert completed["usage"].keys() == {"input_tokens", "output_tokens", "cached_tokens"}
    assert read("results.json").keys() >= {"output_url", "error_url", "expires_at"}
    lines = [json.loads(line) for line in (tmp_path / "batch_output.jsonl").read_text().splitlines()]
    answers = {line["custom_id"]: line["response"]["choices"][0]["message"]["content"] for line in lines}
    assert answers == {f"req-{index}": f"Prompt {index}" for index in range(40)}
    assert read("cancelled.json")["status"] == "cancelling"
    assert read("batch.json")["status"] == "cancelled"
    assert [batch["id"] for batch in read("list.json")["data"]] == [read("hooked.json")["id"], completed["id"]]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(["--fault", "lost"], "there is no fault 'lost'", id="fault"),
        pytest.param(["--rate-limit", "many"], "250/minute,5000/hour", id="rate-limit"),
        pytest.param(["--url-ttl", "soon"], "--url-ttl soon: not a duration", id="duration"),
        pytest.param(["--time-scale", "0"], "above 0", id="time-scale"),
    ],
)
def test_options_that_make_no_sense_are_said_in_a_sentence(tmp_path: Path, options: list[str], says: str) -> None:
    done = run_cli(["serve", "--data", str(tmp_path), *options], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_serve_keeps_to_the_documented_rate_limits_unless_told_otherwise(tmp_path: Path) -> None:
    import httpx

    with serving(tmp_path) as url:
        replies = [httpx.get(f"{url}/v1/batches") for _ in range(2)]
    assert [reply.headers["ratelimit-remaining"] for reply in replies] == ["4999", "4998"]
    with serving(tmp_path, "--rate-limit", "1/minute") as url:
        assert [httpx.get(f"{url}/v1/batches").status_code for _ in range(2)] == [200, 429]
    with serving(tmp_path, "--rate-limit", "off") as url:
        assert "ratelimit-limit" not in httpx.get(f"{url}/v1/batches").headers
