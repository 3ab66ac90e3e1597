"""A clock that is held, stubs, and providers that talk to them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from runner.providers.digitalocean import DigitalOcean
from runner.providers.http import Limits
from runner.providers.patience import Patience
from tests.providers.stub import KEY, SIGNATURE, Stub

SMALL = Limits(answer=200_000, file=1_000_000)
"""Sizes that tests can reach."""


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
def client(clock: Clock) -> Iterator[Callable[..., DigitalOcean]]:
    """Makes providers for a stub, whose clock is held; `chance` is what their jitter throws."""
    with ExitStack() as stack:

        def make(stub: Stub, *, key: str = KEY, chance: float = 0.0, limits: Limits = SMALL) -> DigitalOcean:
            patience = Patience(sleep=clock.sleep, chance=lambda: chance)
            api = DigitalOcean(stub.url, key, now=clock.now, patience=patience, limits=limits)
            stack.callback(api.close)
            return api

        yield make


@pytest.fixture
def api(stub: Stub, client: Callable[..., DigitalOcean]) -> DigitalOcean:
    return client(stub)


def told_of(error: BaseException) -> str:
    """All that a log or a terminal could show of an error: its text, notes, causes and hints."""
    hints = [getattr(each, "hint", "") for each in (error, error.__cause__, error.__context__)]
    return "".join(traceback.format_exception(error)) + repr(error) + " ".join(hints)


def has_no_secret(error: BaseException) -> bool:
    """Whether neither the key nor a presigned URL's signature shows in an error."""
    text = told_of(error)
    return KEY not in text and SIGNATURE not in text
