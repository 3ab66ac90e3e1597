"""The backend openai in front of a server that people really use: llama.cpp's, with a real model, where installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runner.errors import ServiceError
from runner.service.backends.smollm import model_path
from tests.service.conftest import Serve, chat, message, response

KEY = "sk-llama"
ASK = "Say hello."


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    """The address of a llama.cpp server that wants a key."""
    try:
        path = model_path()
    except ServiceError as missing:
        pytest.skip(f"{missing}: {missing.hint}")
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    # One thread: several wait for each other by spinning, which on a busy machine takes for ever.
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 4096, 2, 1
    params.warmup, params.verbosity, params.ui = False, -1, False
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [KEY]
    server = xllamacpp.Server(params)
    yield server.listening_address
    del server


@pytest.fixture
def settings(llama: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("LLAMA_KEY", KEY)
    return {"backend": "openai", "base_url": f"{llama}/v1", "key_env": "LLAMA_KEY", "concurrency": 2}


def test_all_formats_are_answered(serve: Serve, settings: dict[str, Any]) -> None:
    """Chat completions, responses and Anthropic's messages: a real answer in each format's own words."""
    api = serve(**settings)
    batches = [
        api.submit([chat(f"c{index}", ASK, max_tokens=4, temperature=0) for index in range(2)]),
        api.submit([response("r", ASK, max_output_tokens=4, temperature=0)]),
        api.submit([message("m", ASK, max_tokens=4, temperature=0)]),
    ]
    ended = [api.ended(batch["id"]) for batch in batches]
    assert [batch["request_counts"]["failed"] for batch in ended] == [0, 0, 0]
    assert all(batch["usage"]["input_tokens"] > 0 for batch in ended)
    assert all(0 < batch["usage"]["output_tokens"] <= 4 * batch["request_counts"]["total"] for batch in ended)
    chats, responses, messages = [[line["response"] for line in api.results(batch["id"])[0]] for batch in ended]
    assert {len(chats), len(responses), len(messages)} == {2, 1}
    assert chats[0]["choices"][0]["message"]["content"].strip()
    assert responses[0]["output"][-1]["content"][0]["text"].strip()
    assert messages[0]["type"] == "message"
    assert messages[0]["content"][0]["text"].strip()


def test_its_errors_become_error_lines(serve: Serve, settings: dict[str, Any]) -> None:
    api = serve(**settings)
    batch = api.run([chat("long", "word " * 9000), chat("fine", ASK, max_tokens=3)])
    output, errors = api.results(batch["id"])
    assert [line["custom_id"] for line in output] == ["fine"]
    assert errors[0]["error"]["code"] == "exceed_context_size_error"


def test_a_wrong_key_fails_the_job(serve: Serve, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_KEY", "sk-wrong")
    batch = serve(**settings).run([chat("a")])
    assert batch["status"] == "failed"
    assert batch["errors"][0]["code"] == "upstream_unauthorized"
