"""The executor's interface to a batch service. Times are in UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
"""Final states. An unknown state counts as running."""

Progress = Callable[[int, int], None]
"""Called with the bytes moved since the last call, and the change of the expected total. Either is negative after a
restart. Uploads report no total."""


Renew = Callable[[], str]
"""Returns a fresh download URL of the same file. Raises ProviderError."""


@dataclass(frozen=True, slots=True)
class FileIntent:
    """Permission for one upload. Never store or log the secret `upload_url`."""

    file_id: str
    upload_url: str = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A new batch. `endpoint` is empty for anthropic; `webhook` is (url, secret)."""

    file_id: str
    line_format: str
    endpoint: str
    request_id: str
    metadata: dict[str, str]
    webhook: tuple[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """A batch's requests. Zero until the service knows."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a batch used."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class BatchError:
    """Why a batch failed. `line` of the uploaded file counts from 1."""

    code: str
    message: str
    line: int | None


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch at the service. `status` is its own word, lower case."""

    batch_id: str
    status: str
    file_id: str
    line_format: str
    endpoint: str
    request_id: str
    metadata: dict[str, str]
    counts: Counts
    usage: Usage | None
    errors: tuple[BatchError, ...]
    created_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None

    @property
    def ended(self) -> bool:
        """Return whether the state is final."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class ResultUrls:
    """Short-lived download URLs, each a secret."""

    output_url: str | None = field(repr=False)
    error_url: str | None = field(repr=False)
    expires_at: datetime | None = None


class BatchApi(Protocol):
    """One account at one service. Methods raise ProviderError.

    Reads retry transient errors. If a create's response is lost it raises Unreachable or ServerError, and the caller
    lists the batches.
    """

    def create_file(self, name: str, size: int) -> FileIntent:
        """Request an upload URL. Safe to repeat: files cost nothing."""
        ...

    def upload(self, intent: FileIntent, path: Path, progress: Progress | None = None) -> None:
        """Stream a file. Raises Unauthorized (403) if the URL expired."""
        ...

    def create_batch(self, request: CreateRequest) -> RemoteBatch:
        """Create a batch, or return the one with the same `request_id` and bytes."""
        ...

    def get_batch(self, batch_id: str) -> RemoteBatch:
        """Return a batch. Raises NotFound."""
        ...

    def list_batches(self) -> Iterator[RemoteBatch]:
        """Yield all batches, newest first."""
        ...

    def results(self, batch_id: str) -> ResultUrls:
        """Return fresh URLs. Raises NotReady before there are any, NotFound after."""
        ...

    def download(self, url: str, path: Path, progress: Progress | None = None, renew: Renew | None = None) -> None:
        """Stream a result file to `path`, and replace it at the end.

        `renew` replaces an expired URL. Raises NotFound, Unauthorized without a valid URL.
        """
        ...

    def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Request cancellation. Raises Conflict for an ended batch or without upstream."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...
