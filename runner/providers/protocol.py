"""What the executor needs of a batch service, as a Protocol, and the values that go through it.

No wire format is known here; an implementation translates. Times are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
"""States that never change again. A name that is not known counts as running."""

Progress = Callable[[int, int], None]
"""Called with the number of bytes moved since the last call, and how many more are known to move in all than before.

Either is negative where something starts from the beginning. An upload's caller knows its size, so that is not told.
"""


Renew = Callable[[], str]
"""Asks for a fresh download address of the same file. Raises ProviderError."""


@dataclass(frozen=True, slots=True)
class FileIntent:
    """A place for one upload. `upload_url` is a secret of its own: it is never written to a file or a log."""

    file_id: str
    upload_url: str = field(repr=False)
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What a batch is created from. `endpoint` is empty for anthropic; `webhook` is (url, secret)."""

    file_id: str
    line_format: str
    endpoint: str
    request_id: str
    metadata: dict[str, str]
    webhook: tuple[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests of a batch: all, answered, failed. Zero until the service knows."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a batch took."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class BatchError:
    """Why a whole batch failed; `line` counts from 1 in the uploaded file, None where it is about all of it."""

    code: str
    message: str
    line: int | None


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as the service tells it. `status` is the service's own word, lower case."""

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
        """Whether the state can change no more."""
        return self.status in TERMINAL


@dataclass(frozen=True, slots=True)
class ResultUrls:
    """Short-lived download addresses; each is a secret of its own. None where there is no such file."""

    output_url: str | None = field(repr=False)
    error_url: str | None = field(repr=False)
    expires_at: datetime | None = None


class BatchApi(Protocol):
    """One service and one account. Every method raises `runner.errors.ProviderError` and nothing else of its own.

    Reads are tried again inside after a passing trouble. `create_batch` is sent exactly once a call: when its answer
    is lost it raises Unreachable or ServerError, and the caller finds out by listing.
    """

    def create_file(self, name: str, size: int) -> FileIntent:
        """Ask for a place to upload `size` bytes. Harmless to repeat: nothing is billed for a file."""
        ...

    def upload(self, intent: FileIntent, path: Path, progress: Progress | None = None) -> None:
        """Stream a file to the intent's URL. The same URL may be used again until it expires.

        Raises Unauthorized (403) where the URL is no longer good: make a new intent.
        """
        ...

    def create_batch(self, request: CreateRequest) -> RemoteBatch:
        """Create a batch. With a `request_id` already used for the same bytes, the existing batch is returned."""
        ...

    def get_batch(self, batch_id: str) -> RemoteBatch:
        """The batch as it is now. Raises NotFound."""
        ...

    def list_batches(self) -> Iterator[RemoteBatch]:
        """All batches of the account, newest first, page by page."""
        ...

    def results(self, batch_id: str) -> ResultUrls:
        """Fresh download addresses. Raises NotReady before there are any, NotFound when they are gone."""
        ...

    def download(self, url: str, path: Path, progress: Progress | None = None, renew: Renew | None = None) -> None:
        """Stream a result file to `path`, going on by range where a connection broke. Replaces what stands there.

        Where the URL has expired it goes on with the one that `renew` gives. Raises NotFound where the file is gone,
        Unauthorized where the URL has expired and there is no other.
        """
        ...

    def cancel_batch(self, batch_id: str) -> RemoteBatch:
        """Ask for cancellation. Raises Conflict on a batch that has ended or has not reached its upstream."""
        ...

    def close(self) -> None:
        """Give back connections; ends an embedded service that this object started."""
        ...
