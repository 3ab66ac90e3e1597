"""A small OpenAI-compatible server on a real socket, which counts what it is asked and can be told to misbehave."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

Json = dict[str, Any]
Reply = tuple[int, Json | bytes, dict[str, str]]
Script = Callable[[str, Json, int], Reply | None]
"""Called with path, body and how often this very body came before; None for the usual answer."""


class Upstream:
    """What a test sees of the server: its address, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: Counter[str] = Counter()
        """How often each user text was answered with 200."""
        self.paths: list[str] = []
        self.bodies: list[Json] = []
        self.keys: set[str | None] = set()
        self.at_once = self.most_at_once = 0


def completion(body: Json) -> Json:
    text = body["messages"][-1]["content"]
    return {
        "id": "chatcmpl-7",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": f"re: {text}"}, "finish_reason": "stop"},
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 3,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


@contextmanager
def serve_upstream(script: Script = lambda _path, _body, _times: None) -> Iterator[Upstream]:
    lock = threading.Lock()
    times: Counter[bytes] = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            body = orjson.loads(raw)
            with lock:
                upstream.paths.append(self.path)
                upstream.bodies.append(body)
                upstream.keys.add(self.headers.get("authorization"))
                seen = times[raw]
                times[raw] += 1
                upstream.at_once += 1
                upstream.most_at_once = max(upstream.most_at_once, upstream.at_once)
            status, answer, headers = script(self.path, body, seen) or (200, completion(body), {})
            with lock:
                upstream.at_once -= 1
                if status == 200 and "messages" in body:
                    upstream.asked[body["messages"][-1]["content"]] += 1
            content = answer if isinstance(answer, bytes) else orjson.dumps(answer)
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """A client that is killed in the middle is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    upstream = Upstream(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
