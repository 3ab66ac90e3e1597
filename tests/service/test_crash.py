"""Killed at any moment and started again, the service goes on: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from runner.service.jobs.journal import OUTPUT, Journal
from runner.service.jobs.lines import Usage
from tests.service.conftest import Caller, Serve, chat
from tests.service.upstream import Json, Reply, serve_upstream

_PROGRAM = """
import json, sys
from pathlib import Path
from runner.service import ServiceConfig, run
settings = json.loads(sys.argv[1])
run(ServiceConfig(**{**settings, "data": Path(settings["data"])}), lambda url: print(url, flush=True))
"""


@contextmanager
def process(data: Path, **settings: Any) -> Iterator[tuple[subprocess.Popen[str], Caller]]:
    """The service in a process of its own, killed at the end if it still runs."""
    text = orjson.dumps({"data": str(data), "webhook_allow": ["loopback"], **settings}).decode()
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        api = Caller(running.stdout.readline().strip() or "http://127.0.0.1:9")
        try:
            yield running, api
        finally:
            api.close()
            running.kill()
            running.wait()


@pytest.mark.slow
def test_sigkill_in_the_middle_of_a_job_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Every request has exactly one answer in the end, and none that was answered is asked again.

    A request whose answer was still on its way when the service died has to be asked again: at most as many as were
    asked at once.
    """
    concurrency, kills = 4, 3

    def script(_path: str, _body: Json, _times: int) -> Reply | None:
        time.sleep(0.005)
        return None

    with serve_upstream(script) as upstream:
        settings = {"backend": "openai", "base_url": upstream.url, "concurrency": concurrency}
        with process(tmp_path, **settings) as (running, api):
            batch_id = api.submit([chat(f"r{index}", f"text {index}") for index in range(600)])["id"]
            api.until(batch_id, lambda batch: batch["request_counts"]["completed"] > 30)
            running.kill()
        for _ in range(kills - 1):
            with process(tmp_path, **settings) as (running, api):
                before = sum(upstream.asked.values())
                api.until_true(lambda before=before: sum(upstream.asked.values()) > before + 60)  # type: ignore[misc]
                running.kill()
        with process(tmp_path, **settings) as (_, api):
            batch = api.ended(batch_id)
            output, errors = api.results(batch_id)
    assert (batch["status"], errors) == ("completed", [])
    assert batch["request_counts"] == {"total": 600, "completed": 600, "failed": 0}
    assert sorted(line["custom_id"] for line in output) == sorted(f"r{index}" for index in range(600))
    assert batch["usage"]["output_tokens"] == 600 * 3
    assert len(upstream.asked) == 600
    assert sum(upstream.asked.values()) - 600 <= kills * concurrency


def test_sigkill_after_a_create_was_answered_keeps_the_job(tmp_path: Path) -> None:
    with process(tmp_path, answer_delay=60) as (running, api):
        file_id = api.upload([chat("a")])
        made = [api.create(file_id, request_id=f"order-{index}").json()["id"] for index in range(20)]
        running.kill()
    with process(tmp_path) as (_, api):
        assert [api.ended(batch_id)["status"] for batch_id in made] == ["completed"] * 20
        assert api.create(file_id, request_id="order-7").json()["id"] == made[7]


def test_sigkill_during_an_upload_leaves_no_upload(tmp_path: Path) -> None:
    with process(tmp_path) as (running, api):
        intent = api.intent()
        started = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield b"x" * 3_000_000
            started.set()
            time.sleep(0.3)
            yield b"x"

        def put() -> None:
            with pytest.raises(httpx.HTTPError):
                httpx.put(intent["upload_url"], content=slowly())

        uploading = threading.Thread(target=put)
        uploading.start()
        started.wait()
        running.kill()
        running.wait()
        uploading.join()
    with process(tmp_path) as (_, api):
        assert api.create(intent["file_id"]).status_code == 400
        assert not any((tmp_path / "uploads").iterdir())


def test_sigterm_stops_cleanly_and_says_nothing_on_stdout(tmp_path: Path) -> None:
    with process(tmp_path, answer_delay=60) as (running, api):
        api.until(api.submit([chat("a")])["id"], lambda batch: batch["status"] == "in_progress")
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=10)
        assert time.monotonic() - began < 2
        assert (running.returncode, out, err) == (0, "", "")
    assert not (tmp_path / "url").exists()


def test_a_half_last_line_is_cut_off_and_asked_again(serve: Serve, tmp_path: Path) -> None:
    """What a crash may leave of a line is not an answer."""
    api = serve(answer_delay=0.05, drain=0.1)
    batch_id = api.submit([chat(f"r{index}") for index in range(100)])["id"]
    api.until(batch_id, lambda batch: batch["request_counts"]["completed"] > 20)
    api.stop()
    path = tmp_path / "data" / "jobs" / batch_id / OUTPUT
    path.write_bytes(path.read_bytes()[:-40])
    batch = serve().ended(batch_id)
    assert batch["request_counts"] == {"total": 100, "completed": 100, "failed": 0}
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted(line["custom_id"] for line in lines) == sorted(f"r{index}" for index in range(100))


@pytest.mark.parametrize("shape", ["guide", "openai", "anthropic"])
def test_a_journal_knows_after_reopening_what_it_knew(tmp_path: Path, shape: Any) -> None:
    """Counts, tokens and what is done come from the files, whatever shape their lines have."""
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2}}
    journal = Journal(tmp_path, "b", shape)
    journal.answered("a", {"id": "x", "usage": usage}, Usage(7, 5, 2))
    journal.refused("b", "code", "message")
    before, done = journal.progress, {*journal.done}
    journal.close()
    assert not done
    with (tmp_path / OUTPUT).open("ab") as file:
        file.write(b'{"custom_id": "c", "resp')
    journal = Journal(tmp_path, "b", shape)
    assert journal.progress == before
    assert len(journal.done) == 2
    journal.close()


def test_a_full_disk_pauses_a_job_and_loses_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Half a line is taken back; the job goes on when there is room again."""
    monkeypatch.setattr("runner.service.jobs.scheduler.RETRY_AFTER", (0.2,))
    real, room = os.write, {"left": 2000, "failed": 0}

    def write(descriptor: int, data: bytes) -> int:
        if b"custom_id" not in data[:20] and b"resp" not in data:
            return real(descriptor, data)
        if room["left"] <= 0 and room["failed"] < 3:
            room["failed"] += 1
            raise OSError(28, "No space left on device")
        part = data[: room["left"]] if room["failed"] < 3 else data
        room["left"] -= len(part)
        return real(descriptor, part)

    monkeypatch.setattr("runner.service.jobs.journal.os.write", write)
    api = serve()
    batch = api.run([chat(f"r{index}") for index in range(30)])
    assert room["failed"] == 3
    output, _ = api.results(batch["id"])
    assert sorted(line["custom_id"] for line in output) == sorted(f"r{index}" for index in range(30))
    assert "job.interrupted" in capfd.readouterr().err
