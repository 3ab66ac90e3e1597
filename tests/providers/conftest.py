"""A clock that is held, stubs, and providers that talk to them."""

from __future__ import annotations

import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.providers.digitalocean import DigitalOcean
from runner.providers.http import Limits
from runner.providers.protocol import CreateRequest, FileIntent
from runner.providers.retry import RetryPolicy
from tests.providers.stub import KEY, SIGNATURE, Stub
from tests.providers.stub_steps import Reply

SMALL = Limits(answer=200_000, file=1_000_000)
"""Sizes that tests can reach."""
BATCH = "/v1/batches/b-1"
LIST = "/v1/batches"
ORDER = CreateRequest("file-1", "openai", "/v1/responses", "rid-1", {"job": "j"})
GOOD = Reply(200, {"id": "b-1", "status": "queued"})
UPLOAD = "/upload/.*"
DOWNLOAD = "/download/.*"
ALIKE = b"the same again and again "
Make = Callable[..., DigitalOcean]


@dataclass
class Clock:
    """Time that passes only by sleeping. `naps` are the sleeps so far, in seconds."""

    time: float = 1_900_000_000.0
    naps: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.time += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running


@pytest.fixture
def client(clock: Clock) -> Iterator[Make]:
    """Makes providers for a stub, whose clock is held; `chance` is what their jitter throws."""
    with ExitStack() as stack:

        def make(stub: Stub, *, key: str = KEY, chance: float = 0.0, limits: Limits = SMALL) -> DigitalOcean:
            retry = RetryPolicy(sleep=clock.sleep, rng=lambda: chance)
            api = DigitalOcean(stub.url, key, now=clock.now, retry=retry, limits=limits)
            stack.callback(api.close)
            return api

        yield make


@pytest.fixture
def api(stub: Stub, client: Make) -> DigitalOcean:
    return client(stub)


@pytest.fixture
def content() -> bytes:
    return b"".join(b'{"custom_id": "k-%d"}\n' % n for n in range(20_000))


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "out.jsonl"


def intent(stub: Stub, clock: Clock, seconds: float | None = 900.0) -> FileIntent:
    expires = None if seconds is None else datetime.fromtimestamp(clock.time + seconds, UTC)
    return FileIntent("file-0", stub.intent_url(), expires)


def xml(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>?signature={SIGNATURE}</Message></Error>".encode()


def peak(call: Callable[[], object]) -> int:
    """The most bytes that Python held at once during a call, the stub's part included (it keeps 4 MB)."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refusals(count: int, status: int = 503, **headers: str) -> list[Reply]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [Reply(status, {"id": "trouble", "message": "told so"}, named)] * count


def told_of(error: BaseException) -> str:
    """All that a log or a terminal could show of an error: its text, notes, causes and hints."""
    hints = [getattr(each, "hint", "") for each in (error, error.__cause__, error.__context__)]
    return "".join(traceback.format_exception(error)) + repr(error) + " ".join(hints)


def has_no_secret(error: BaseException) -> bool:
    """Whether neither the key nor a presigned URL's signature shows in an error."""
    text = told_of(error)
    return KEY not in text and SIGNATURE not in text
