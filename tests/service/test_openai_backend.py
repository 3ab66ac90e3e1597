"""The backend that asks an OpenAI-compatible server, against a real one that misbehaves."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import orjson
import pytest

from runner.errors import ServiceError
from runner.service import BackgroundService, ServiceConfig
from tests.service.conftest import Serve, chat, message, response
from tests.service.upstream import Json, Reply, completion, serve_upstream

SETTINGS: dict[str, Any] = {"backend": "openai", "upstream_backoff": 0.01}


def test_every_request_reaches_the_upstream_once(serve: Serve) -> None:
    with serve_upstream() as upstream:
        api = serve(**SETTINGS, base_url=upstream.url)
        batch = api.run([chat(f"r{index}", f"text {index}", temperature=0) for index in range(50)])
        output, errors = api.results(batch["id"])
        api.stop()
    assert errors == []
    assert {line["custom_id"]: line["response"]["choices"][0]["message"]["content"] for line in output} == {
        f"r{index}": f"re: text {index}" for index in range(50)
    }
    assert set(upstream.asked.values()) == {1}
    assert len(upstream.asked) == 50
    assert set(upstream.paths) == {"/v1/chat/completions"}
    assert batch["usage"] == {"input_tokens": 500, "output_tokens": 150, "cached_tokens": 200}


def test_what_passes_is_tried_again(serve: Serve) -> None:
    """429 and 5xx are followed by the answer, not by an error line."""

    def script(_path: str, body: Json, times: int) -> Reply | None:
        text = body["messages"][-1]["content"]
        if text == "busy" and times < 3:
            return 429, {"error": {"message": "slow down"}}, {"retry-after": "0"}
        if text == "broken" and times < 3:
            return 500, b"<html>oops</html>", {}
        return None

    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url)
        batch = api.run([chat("a", "busy"), chat("b", "broken"), chat("c", "fine")])
        api.stop()
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert len(upstream.paths) == 9


def test_what_does_not_pass_becomes_an_error_line(serve: Serve) -> None:
    """With the upstream's own code and words, so that people know what to do."""

    def script(_path: str, body: Json, _times: int) -> Reply | None:
        match body["messages"][-1]["content"]:
            case "long":
                return 400, {"error": {"code": "context_length_exceeded", "message": "too long"}}, {}
            case "broken":
                return 503, {"error": {"message": "out of memory"}}, {}
            case "nonsense":
                return 200, b"[]", {}
            case "model":
                return 404, {"object": "error", "message": "no such model", "type": "NotFoundError", "code": 404}, {}
        return None

    texts = ["long", "broken", "nonsense", "model", "fine"]
    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url)
        batch = api.run([chat(text, text) for text in texts])
        output, errors = api.results(batch["id"])
        api.stop()
    assert [line["custom_id"] for line in output] == ["fine"]
    assert {line["custom_id"]: (line["error"]["code"], line["error"]["message"]) for line in errors} == {
        "long": ("context_length_exceeded", "too long"),
        "broken": ("upstream_error", "out of memory"),
        "nonsense": (
            "invalid_upstream_answer",
            (
                "The upstream's answer is not a chat completion."
                f" {upstream.url}/v1/chat/completions replied HTTP 200 OK: []"
            ),
        ),
        "model": ("NotFoundError", "no such model"),
    }


def test_a_wrong_base_url_ends_with_the_status_and_the_text_of_its_replies(
    serve: Serve,
) -> None:
    """Whatever the server behind it is: also one that has a page for every path, or sends errors with status 200."""
    page, moved = b"<html>\n  Welcome </html>", {"location": "https://127.0.0.1/v1"}
    replies: dict[str, Reply] = {
        "go": (404, b"404 page not found", {}),
        "fastapi": (404, {"detail": "Not Found"}, {}),
        "empty": (405, b"", {}),
        "moved": (308, b"", moved),
        "page": (200, page, {}),
        "other": (200, {"models": []}, {}),
        "null": (200, {"choices": None}, {}),
        "error": (200, {"error": {"message": "no route", "code": "no_route"}}, {}),
        "wordless": (200, {"error": "no route"}, {}),
    }
    with serve_upstream(lambda _path, body, _times: replies[body["messages"][-1]["content"]]) as upstream:
        host = upstream.url.removeprefix("http://")
        api = serve(**SETTINGS, base_url=f"http://user:secret@{host}/api")
        batch = api.run([chat(text, text) for text in replies])
        output, errors = api.results(batch["id"])
        api.stop()
    refused, odd = "The upstream refused the request.", "The upstream's answer is not a chat completion."
    replied = f"{upstream.url}/api/chat/completions replied HTTP"
    assert output == []
    assert {line["custom_id"]: (line["error"]["code"], line["error"]["message"]) for line in errors} == {
        "go": ("http_404", f"{refused} {replied} 404 Not Found: 404 page not found"),
        "fastapi": ("http_404", f'{refused} {replied} 404 Not Found: {{"detail":"Not Found"}}'),
        "empty": ("http_405", f"{refused} {replied} 405 Method Not Allowed."),
        "moved": ("http_308", f"{refused} {replied} 308 Permanent Redirect: to https://127.0.0.1/v1"),
        "page": ("invalid_upstream_answer", f"{odd} {replied} 200 OK: <html> Welcome </html>"),
        "other": ("invalid_upstream_answer", f'{odd} {replied} 200 OK: {{"models":[]}}'),
        "null": ("invalid_upstream_answer", f'{odd} {replied} 200 OK: {{"choices":null}}'),
        "error": ("no_route", "no route"),
        "wordless": ("invalid_upstream_answer", "no route"),
    }


@pytest.mark.slow
def test_an_upstream_that_does_not_answer_in_time_is_asked_again_and_then_given_up(serve: Serve) -> None:
    """A request that passes with the second try is answered; one that never does becomes an error line."""
    release = threading.Event()

    def script(_path: str, body: Json, times: int) -> Reply | None:
        if body["messages"][-1]["content"] == "never" or times == 0:
            release.wait(20)
        return None

    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url, upstream_timeout=0.5)
        batch = api.run([chat("a", "never"), chat("b", "slow at first")])
        output, errors = api.results(batch["id"])
        api.stop()
        release.set()
    assert [line["custom_id"] for line in output] == ["b"]
    assert [(line["custom_id"], line["error"]["code"]) for line in errors] == [("a", "upstream_timeout")]
    assert sum(body["messages"][-1]["content"] == "never" for body in upstream.bodies) == 5


def test_an_upstream_that_asks_for_a_pause_gets_it(serve: Serve) -> None:
    """Retry-After holds where it is longer than the pause of our own."""
    asked: list[float] = []

    def script(_path: str, _body: Json, times: int) -> Reply | None:
        asked.append(time.monotonic())
        return (429, {"error": {"message": "slow down"}}, {"retry-after": "1"}) if times == 0 else None

    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url)
        assert api.run([chat("a")])["request_counts"]["completed"] == 1
        api.stop()
    assert asked[1] - asked[0] >= 1


def test_an_answer_that_breaks_off_is_asked_for_again(serve: Serve) -> None:
    def script(_path: str, body: Json, times: int) -> Reply | None:
        answer = orjson.dumps(completion(body))
        return (200, answer[:50], {"content-length": str(len(answer)), "connection": "close"}) if times < 2 else None

    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url)
        batch = api.run([chat("a")])
        api.stop()
    assert (batch["request_counts"]["completed"], len(upstream.paths)) == (1, 3)


def test_a_key_that_would_go_in_the_clear_is_warned_about(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-very-secret")
    for base_url in ("https://gpu.example", "http://127.0.0.1:9"):
        serve(**SETTINGS, base_url=base_url, key_env="UPSTREAM_KEY").stop()
    assert "in_the_clear" not in capfd.readouterr().err
    serve(**SETTINGS, base_url="http://gpu.example", key_env="UPSTREAM_KEY").stop()
    said = capfd.readouterr().err
    assert "upstream.key_sent_in_the_clear" in said
    assert "sk-very-secret" not in said


def test_an_upstream_without_responses_is_asked_for_chat_completions(serve: Serve) -> None:
    """Found out once, and mapped there and back from then on."""

    def script(path: str, body: Json, _times: int) -> Reply | None:
        return (404, {"detail": "Not Found"}, {}) if path.endswith("/responses") else None

    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=f"{upstream.url}/v1", concurrency=1)
        batch = api.run([response(f"r{index}", f"text {index}", instructions="Be brief.") for index in range(5)])
        output, _ = api.results(batch["id"])
        api.stop()
    assert upstream.paths.count("/v1/responses") == 1
    assert upstream.paths.count("/v1/chat/completions") == 5
    assert upstream.bodies[-1]["messages"][0] == {"role": "system", "content": "Be brief."}
    answer = next(line["response"] for line in output if line["custom_id"] == "r3")
    assert answer["object"] == "response"
    assert answer["output"][0]["content"] == [{"type": "output_text", "text": "re: text 3", "annotations": []}]
    assert answer["usage"]["input_tokens_details"] == {"cached_tokens": 4}


def test_an_upstream_with_responses_is_asked_there(serve: Serve) -> None:
    native = {"id": "resp_1", "object": "response", "output": [], "usage": {"input_tokens": 5, "output_tokens": 2}}
    with serve_upstream(lambda path, _body, _times: (200, native, {})) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url)
        batch = api.run([response("a")])
        output, _ = api.results(batch["id"])
        api.stop()
    assert upstream.paths == ["/v1/responses"]
    assert output[0]["response"] == native
    assert batch["usage"] == {"input_tokens": 5, "output_tokens": 2, "cached_tokens": 0}


def test_anthropic_jobs_run_as_chat_completions(serve: Serve) -> None:
    """System, parts, stop sequences and tools go there; text, tool calls and usage come back in Anthropic's words."""

    def script(_path: str, body: Json, _times: int) -> Reply | None:
        answer = completion({**body, "messages": [{"content": "x"}]})
        if body.get("tools"):
            call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
            answer["choices"][0] |= {
                "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                "finish_reason": "tool_calls",
            }
        return 200, answer, {}

    history = [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 0}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "found"}]},
    ]
    tool = {"name": "look", "description": "looks", "input_schema": {"type": "object"}}
    lines = [
        message("plain", system="sys", stop_sequences=["END"]),
        message("tools", messages=history, tools=[tool], tool_choice={"type": "any"}),
    ]
    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url)
        batch = api.run(lines)
        output, errors = api.results(batch["id"])
        api.stop()
    assert errors == []
    answers = {line["custom_id"]: line["response"] for line in output}
    assert answers["plain"]["content"] == [{"type": "text", "text": "re: x"}]
    assert answers["plain"]["stop_reason"] == "end_turn"
    assert answers["plain"]["usage"]["input_tokens"] == 6
    assert answers["plain"]["usage"]["cache_read_input_tokens"] == 4
    assert answers["tools"]["content"] == [{"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": 1}}]
    assert answers["tools"]["stop_reason"] == "tool_use"
    assert batch["usage"]["input_tokens"] == 20
    plain = next(body for body in upstream.bodies if "tools" not in body)
    assert plain["messages"][0] == {"role": "system", "content": "sys"}
    assert plain["stop"] == ["END"]
    tools = next(body for body in upstream.bodies if "tools" in body)
    assert [turn["role"] for turn in tools["messages"]] == ["user", "assistant", "tool"]
    assert tools["messages"][0]["content"] == "one\ntwo"
    assert tools["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert tools["tool_choice"] == "required"


def test_no_more_requests_at_once_than_told_over_all_jobs(serve: Serve) -> None:
    def script(_path: str, _body: Json, _times: int) -> Reply | None:
        time.sleep(0.02)
        return None

    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url, concurrency=3)
        jobs = [api.submit([chat(f"r{index}", f"{job} {index}") for index in range(15)]) for job in range(3)]
        for job in jobs:
            api.ended(job["id"])
        api.stop()
    assert upstream.most_at_once == 3


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "sk-very-secret")
    with serve_upstream() as upstream:
        api = serve(**SETTINGS, base_url=upstream.url, key_env="UPSTREAM_KEY")
        api.run([chat("a")])
        api.stop()
    assert upstream.keys == {"Bearer sk-very-secret"}
    assert "sk-very-secret" not in "".join(capfd.readouterr())
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()


def test_a_key_that_is_not_set_keeps_the_service_from_starting(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSTREAM_KEY", raising=False)
    config = ServiceConfig(data=tmp_path, backend="openai", base_url="http://127.0.0.1:9", key_env="UPSTREAM_KEY")
    with pytest.raises(ServiceError, match="UPSTREAM_KEY"):
        BackgroundService.start(config)


def test_a_key_that_is_not_accepted_fails_the_job_and_keeps_its_answers(serve: Serve) -> None:
    """50,000 equal error lines would help nobody; what was answered before stays."""

    def script(_path: str, _body: Json, _times: int) -> Reply | None:
        return None if len(upstream.paths) == 1 else (401, {"error": {"message": "key revoked"}}, {})

    with serve_upstream(script) as upstream:
        api = serve(**SETTINGS, base_url=upstream.url, concurrency=1)
        batch = api.run([chat(f"r{index}") for index in range(100)])
        output, errors = api.results(batch["id"])
        api.stop()
    assert batch["status"] == "failed"
    assert batch["errors"][0]["code"] == "upstream_unauthorized"
    assert "key revoked" in batch["errors"][0]["message"]
    assert batch["result_available"] is True
    assert (len(output), errors) == (1, [])
    assert len(upstream.paths) == 2


def test_an_upstream_that_is_not_there_yet_is_waited_for(serve: Serve) -> None:
    """A model server takes minutes to load; requests are not thrown away meanwhile, and given up at some point."""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    api = serve(**SETTINGS, base_url=f"http://127.0.0.1:{port}", upstream_retry_time=0.3)
    batch = api.run([chat("a")])
    _, errors = api.results(batch["id"])
    assert errors[0]["error"]["code"] == "upstream_unreachable"
