"""Requests that the stub has seen, and what it can be told to do with one instead of its usual answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    size: int = 0
    digest: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """Answer so, without any effect. `early` answers before the body is read; what still comes is thrown away."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    early: bool = False


@dataclass(frozen=True)
class Lost:
    """Do what was asked, and reset the connection instead of answering."""


@dataclass(frozen=True)
class Reset:
    """Read so many bytes of the body, then reset the connection. Nothing has happened."""

    after: int = 0


@dataclass(frozen=True)
class Cut:
    """Do what was asked and send so many bytes of the answer's body. Then the connection is reset, or just ends."""

    after: int
    reset: bool = True


@dataclass(frozen=True)
class Raw:
    """Send these bytes and end the connection. Nothing has happened."""

    data: bytes


@dataclass(frozen=True)
class Hang:
    """Never answer. Nothing has happened."""


@dataclass(frozen=True)
class Also:
    """Answer as usual, with these headers more."""

    headers: Mapping[str, str]


@dataclass(frozen=True)
class Instead:
    """Answer with what a function makes of the request."""

    make: Callable[[Seen], Reply]


Step = Reply | Lost | Reset | Cut | Raw | Hang | Also | Instead
