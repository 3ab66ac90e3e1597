"""The process of the SmolLM2 model: chat requests as JSON lines on stdin and stdout.

llama.cpp's threads would crash an interpreter at its end, and a long prompt can't be interrupted. Killing this process
is safe: it keeps no state.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]

PARALLEL = 2
CONTEXT_TOKENS = 8192
"""The context length of the model's training. Parallel requests share it."""

_SILENT = -1


class _Answer:
    def __init__(self) -> None:
        self._chat: Json = {}
        self._text: list[str] = []
        self._finish_reason: str | None = None
        self._usage: Json = {}
        self.error: Json | None = None

    def add(self, chunks: Any) -> None:
        for chunk in chunks if isinstance(chunks, list) else [chunks]:
            # The library swallows exceptions from its callback, so errors are stored instead of raised.
            if "error" in chunk:
                self.error = self.error or _error(chunk["error"])
            self._chat = self._chat or {name: chunk.get(name) for name in ("id", "created")}
            self._usage = chunk.get("usage") or self._usage
            for choice in chunk.get("choices") or []:
                self._text.append(choice.get("delta", {}).get("content") or "")
                self._finish_reason = choice.get("finish_reason") or self._finish_reason

    def chat(self) -> Json:
        message = {"role": "assistant", "content": "".join(self._text), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        return {
            "id": self._chat.get("id", ""),
            "object": "chat.completion",
            "created": self._chat.get("created", 0),
            "model": None,
            "choices": [choice],
            "usage": self._usage,
        }


class _Worker:
    def __init__(self, server: Any, pipe: Any) -> None:
        self._server = server
        self._pipe = pipe
        self._writing = threading.Lock()
        self._cancelled: dict[int, threading.Event] = {}

    def send(self, message: Json) -> None:
        with self._writing:
            self._pipe.write(orjson.dumps(message) + b"\n")

    def receive(self, message: Json) -> None:
        if "cancel" in message:
            if event := self._cancelled.get(message["cancel"]):
                event.set()
            return
        number = message["id"]
        self._cancelled[number] = threading.Event()
        threading.Thread(target=self._answer, args=(number, message["request"]), daemon=True).start()

    def _answer(self, number: int, request: Json) -> None:
        answer = _Answer()
        cancelled = self._cancelled[number]

        def on_chunk(chunks: Any) -> bool:
            answer.add(chunks)
            return cancelled.is_set()

        try:
            self._server.handle_chat_completions(request, on_chunk)
        except Exception as error:  # noqa: BLE001 - each request must get an answer
            answer.error = {"code": "invalid_request", "message": str(error)}
        del self._cancelled[number]
        self.send({"id": number, "error": answer.error} if answer.error else {"id": number, "chat": answer.chat()})


def _error(error: Any) -> Json:
    fields = error if isinstance(error, dict) else {}
    too_long = fields.get("type") == "exceed_context_size_error"
    return {
        "code": "context_length_exceeded" if too_long else "invalid_request",
        "message": str(fields.get("message", error)),
    }


def _load(path: str, folder: str) -> Any:
    import xllamacpp  # noqa: PLC0415 - a large native library

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = PARALLEL
    params.cpuparams.n_threads = os.cpu_count() or 1
    params.warmup = False
    params.verbosity = _SILENT
    # The library always listens, with open CORS. A socket in a private folder keeps other users and browsers out.
    if hasattr(os, "getuid"):
        params.hostnames = [str(Path(folder) / "llama.sock")]
    params.api_keys = [secrets.token_urlsafe(32)]
    params.endpoint_slots = False
    params.ui = False
    return xllamacpp.Server(params)


def main() -> None:
    """Load the model and answer until stdin ends, with the parent process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent process gets them too, and ends this process
    # The native library may print to stdout; only answers may go to the parent.
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    path, folder = sys.argv[1:]
    worker = _Worker(None, pipe)
    try:
        worker = _Worker(_load(path, folder), pipe)
    except Exception as error:  # noqa: BLE001 - the parent reports it
        worker.send({"failure": f"{type(error).__name__}: {error}"})
    else:
        for line in sys.stdin.buffer:
            worker.receive(orjson.loads(line))
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)  # without the destructors of the native library, whose threads may still run


if __name__ == "__main__":
    main()
