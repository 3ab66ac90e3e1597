"""Logs: each entry is an event with its job and shard, lines of JSON where that is asked for, and never a secret."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from runner.cli.terminal.progress import Progress
from runner.cli.terminal.terminal import Terminal
from tests.cli_runner import cli_path, run_cli
from tests.conftest import SPEC

KEY = "sk-live-5d41402abc4b2a76b9719d911017c592"
WEBHOOK_SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
FAULTS = ("burst-5xx=@1:1", "lost-create=@2", "expired-upload-url=@2", "cut-download=@1")


@contextmanager
def service(folder: Path, *faults: str) -> Iterator[str]:
    """`batchspec serve` with a key and with troubles; its URL."""
    more = [word for fault in faults for word in ("--fault", fault)]
    with subprocess.Popen(
        [cli_path(), "serve", "--data", str(folder), "--token", KEY, "--webhook-allow", "loopback", *more],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def batchspec(root: Path, *arguments: str, key: str = KEY) -> tuple[int, str, str]:
    environ = {**os.environ, "MODEL_ACCESS_KEY": key, "BATCHSPEC_WEBHOOK_SECRET": WEBHOOK_SECRET}
    done = run_cli(arguments, cwd=root, env=environ)
    return done.returncode, done.stdout, done.stderr


def entries(text: str) -> list[dict[str, Any]]:
    """Every line of a log; each must be JSON."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def far(project: Callable[..., Path], tmp_path: Path) -> Iterator[Path]:
    """A project whose service is a server of its own, with a key, a webhook, and troubles."""
    with service(tmp_path / "service", *FAULTS) as url:
        settings = f"version: 1\nproject: tests\nproviders:\n  far: {{kind: digitalocean, base_url: '{url}'}}\n"
        spec = SPEC.replace("name: hello", "name: hello\nprovider: far") + (
            f"shards: {{max_requests: 2}}\nwebhook: {{url: '{url}/nowhere', secret: {{env: BATCHSPEC_WEBHOOK_SECRET}}}}\n"
        )
        yield project({"batchspec.yaml": settings, "specs/hello.yaml": spec})


def test_no_secret_and_no_prompt_reaches_a_file_or_a_stream(far: Path) -> None:
    """With everything logged, through lost answers, expired and cut transfers, and a key that is refused."""
    said = [batchspec(far, "apply", "--yes", "-vv", "--log-format", "json", key="sk-wrong-5d41402abc4b2a76")]
    assert said[-1][0] == 1
    for arguments in (["plan", "-vv"], ["apply", "--yes", "-vv", "--log-format", "json"], ["status", "--json"],
                      ["apply", "-vv", "--json"], ["verify"], ["report", "--format", "json"]):  # fmt: skip
        said.append(batchspec(far, *arguments))
        assert said[-1][0] == 0, said[-1]
    events = {entry["event"] for entry in entries(said[2][2])}
    assert {"create.lost", "batch.submitted", "batch.fetched", "output.written"} <= events
    streams = "".join(out + error for _, out, error in said)
    files = b"".join(path.read_bytes() for path in far.rglob("*") if path.is_file())
    for secret in (KEY, "sk-wrong-5d41402abc4b2a76", WEBHOOK_SECRET, WEBHOOK_SECRET.removeprefix("whsec_")):
        assert secret not in streams
        assert secret.encode() not in files
    # A presigned URL is a secret of its own.
    assert not re.search(r"[?&](signature|sig|token)=", streams, re.IGNORECASE)
    assert not re.search(rb"[?&](signature|sig|token)=", files, re.IGNORECASE)
    assert "Say one" not in "".join(error for _, _, error in said), "prompts are never logged"


def test_entries_say_whose_they_are(far: Path) -> None:
    code, _, error = batchspec(far, "apply", "--yes", "-v", "--log-format", "json")
    assert code == 0, error
    log = entries(error)
    assert all(re.fullmatch(r"[a-z]+(\.[a-z_]+)+", entry["event"]) for entry in log)
    assert all({"level", "timestamp"} <= entry.keys() for entry in log)
    about = [entry for entry in log if entry["event"].startswith(("batch.", "output.", "create."))]
    assert len(about) >= 5
    assert {entry["job"] for entry in about} == {"hello"}
    sent = [entry for entry in log if entry["event"] in {"batch.submitted", "create.lost"}]
    assert len({entry["shard"] for entry in sent}) == 2
    # What goes wrong below, while something is done for a job, is that job's too.
    retried = [entry for entry in log if entry["event"] == "request.retried"]
    assert retried
    assert all(entry["job"] == "hello" for entry in retried)


def test_waiting_is_told_now_and_then() -> None:
    """A log of a day's wait is less than 250 lines."""
    clock, lines = [1_000.0], list[str]()
    progress = Progress(lines.append, None, now=lambda: clock[0])
    for count in range(24 * 60 * 6):
        clock[0] += 10
        progress.update("answers hello", count // 7, 1_300, 0, "in_progress")
    assert lines[0].startswith("answers hello: ")
    assert 100 < len(lines) < 250


def test_where_logs_are_on_progress_is_an_entry_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runner.cli.terminal.progress._LINE_FIRST", 0.0)
    with Terminal(log_format="json") as terminal:
        terminal.progress("answers hello", 1, 3)
        terminal.progress("answers hello", 2, 3)
        terminal.event("batch.fetched", job="hello")
    structlog.reset_defaults()
    log = entries(capsys.readouterr().err)
    assert [entry["event"] for entry in log][-1] == "batch.fetched"
    assert {entry["event"] for entry in log[:-1]} == {"work.counted"}
