"""What answers the requests: one `Protocol`, and an explicit table of what implements it.

A backend knows nothing of jobs, files or lines. It is made, used and closed in the thread of the jobs' event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from runner.errors import ServiceError
from runner.service.config import ServiceConfig
from runner.service.jobs.lines import Format, Usage

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: the response object in the format of the request, and the tokens it took."""

    response: Json
    usage: Usage


class RequestFailed(Exception):
    """This request got an error for good; it becomes a line of the error file. Nothing is to be billed for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BackendFailed(Exception):
    """No request can be answered, whatever it says: the job fails as a whole."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Backend(Protocol):
    """Answers requests, as many at once as `concurrency` says, over all jobs."""

    @property
    def concurrency(self) -> int:
        """How many requests to ask at once."""
        ...

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one request, which is valid and complete. Raises RequestFailed and BackendFailed."""
        ...

    async def close(self) -> None:
        """Let go of everything. Requests under way are cut short within a second."""
        ...


def make_backend(config: ServiceConfig) -> Backend:
    """The backend that a config names. Raises ServiceError where it can't work on this machine."""
    match config.backend:
        case "echo":
            from runner.service.backends.echo import Echo  # noqa: PLC0415 - only what is used is imported

            return Echo(config.answer_delay, config.concurrency)
        case "openai":
            from runner.service.backends.openai import Upstream  # noqa: PLC0415

            return Upstream(config)
        case "smollm":
            from runner.service.backends.smollm import SmolLM  # noqa: PLC0415

            return SmolLM()
    raise ServiceError(f"no such backend: {config.backend}", code="BS704")
