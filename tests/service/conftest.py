"""A client for the tests that speaks plain HTTP, so that no code of the product stands on both sides."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest

from runner.service import BackgroundService, ServiceConfig
from tests.service import description

Json = dict[str, Any]
TERMINAL = {"completed", "failed", "expired", "cancelled"}
PATIENCE = 20.0


def chat(custom_id: str, text: str = "Say hello.", **body: Any) -> Json:
    body = {"model": "m-1", "messages": [{"role": "user", "content": text}], **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def response(custom_id: str, text: str = "Say hello.", **body: Any) -> Json:
    body = {"model": "m-1", "input": text, **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": body}


def message(custom_id: str, text: str = "Say hello.", **params: Any) -> Json:
    params = {"model": "claude-1", "max_tokens": 64, "messages": [{"role": "user", "content": text}], **params}
    return {"custom_id": custom_id, "params": params}


def jsonl(lines: list[Any]) -> bytes:
    return b"".join(line if isinstance(line, bytes) else orjson.dumps(line) + b"\n" for line in lines)


class Caller:
    """Talks to one service with one token. `stop` ends the service, where it is the caller's own."""

    def __init__(
        self,
        url: str,
        token: str = "",
        stop: Callable[[], None] = lambda: None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.stop = stop
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=30, verify=verify)
        self.plain = httpx.Client(timeout=30, verify=verify)
        check = description.checks()
        if check:
            self.http.event_hooks["response"].append(check)

    def close(self) -> None:
        self.http.close()
        self.plain.close()

    def intent(self, **more: Any) -> Json:
        reply = self.http.post("/v1/batches/files", json={"file_name": "in.jsonl", **more})
        assert reply.status_code == 201, reply.text
        return cast("Json", reply.json())

    def upload(self, lines: list[Any] | bytes) -> str:
        intent = self.intent()
        content = lines if isinstance(lines, bytes) else jsonl(lines)
        assert self.plain.put(intent["upload_url"], content=content).status_code == 200
        return str(intent["file_id"])

    def create(self, file_id: str, **more: Any) -> httpx.Response:
        return self.http.post("/v1/batches", json={"file_id": file_id, "completion_window": "24h", **more})

    def submit(self, lines: list[Any] | bytes, **more: Any) -> Json:
        reply = self.create(self.upload(lines), **more)
        assert reply.status_code == 201, reply.text
        return cast("Json", reply.json())

    def get(self, batch_id: str) -> Json:
        reply = self.http.get(f"/v1/batches/{batch_id}")
        assert reply.status_code == 200, reply.text
        return cast("Json", reply.json())

    def cancel(self, batch_id: str) -> httpx.Response:
        return self.http.post(f"/v1/batches/{batch_id}/cancel")

    def until(self, batch_id: str, good: Callable[[Json], bool]) -> Json:
        deadline = time.monotonic() + PATIENCE
        while not good(batch := self.get(batch_id)):
            assert time.monotonic() < deadline, batch
            time.sleep(0.01)
        return batch

    def until_true(self, good: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not good():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def ended(self, batch_id: str) -> Json:
        return self.until(batch_id, lambda batch: batch["status"] in TERMINAL)

    def run(self, lines: list[Any] | bytes, **more: Any) -> Json:
        return self.ended(self.submit(lines, **more)["id"])

    def results(self, batch_id: str) -> tuple[list[Json], list[Json]]:
        """The lines of the output and the error file."""
        reply = self.http.get(f"/v1/batches/{batch_id}/results")
        assert reply.status_code == 200, reply.text
        return self._lines(reply.json()["output_url"]), self._lines(reply.json()["error_url"])

    def _lines(self, url: str | None) -> list[Json]:
        if url is None:
            return []
        reply = self.plain.get(url)
        assert reply.status_code == 200, reply.text
        assert reply.content.endswith(b"\n")
        return [orjson.loads(line) for line in reply.content.splitlines()]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Caller]]:
    """Start services over `tmp_path`/data and get callers of them; all are stopped at the end."""
    with ExitStack() as stack:

        def start(token: str = "", **settings: Any) -> Caller:
            # Receivers of the tests listen on loopback.
            config = ServiceConfig(**{"data": tmp_path / "data", "webhook_allow": ("loopback",), **settings})
            service = stack.enter_context(BackgroundService.start(config))
            caller = Caller(service.url, token, service.stop)
            stack.callback(caller.close)
            return caller

        yield start


@pytest.fixture
def api(serve: Callable[..., Caller]) -> Caller:
    """A service as it is by default."""
    return serve()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """One service for all the cases of a table."""
    with BackgroundService.start(ServiceConfig(data=tmp_path_factory.mktemp("shared"))) as service:
        caller = Caller(service.url)
        yield caller
        caller.close()


Serve = Callable[..., Caller]
