"""The `Backend` protocol and its implementations.

A backend knows nothing of jobs, files or lines. The scheduler's thread creates, uses and closes it.
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
    """A response in the request's format."""

    response: Json
    usage: Usage


class RequestFailed(Exception):
    """A request's permanent error, for an error line. It costs nothing."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BackendFailed(Exception):
    """No request can be answered, so the job fails."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Backend(Protocol):
    """Answers requests, up to `concurrency` at a time over all jobs."""

    @property
    def concurrency(self) -> int:
        """Return how many requests to send at once."""
        ...

    async def answer(self, body: Json, wire: Format) -> Answer:
        """Answer one complete, valid request. Raises RequestFailed, BackendFailed."""
        ...

    async def close(self) -> None:
        """Release all resources. Requests in flight end within a second."""
        ...


def make_backend(config: ServiceConfig) -> Backend:
    """Return the configured backend. Raises ServiceError if it can't run here."""
    match config.backend:
        case "echo":
            from runner.service.backends.echo import Echo  # noqa: PLC0415 - imports only the backend in use

            return Echo(config.answer_delay, config.concurrency)
        case "openai":
            from runner.service.backends.openai import Upstream  # noqa: PLC0415

            return Upstream(config)
        case "smollm":
            from runner.service.backends.smollm import SmolLM  # noqa: PLC0415

            return SmolLM()
    raise ServiceError(f"no such backend: {config.backend}", code="BS704")
