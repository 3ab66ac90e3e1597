"""Ends this process at a chosen step, by SIGKILL.

A step is an intent or an answer written to the ledger, a request sent or answered, a piece of a download, or a file put
in place. `Killer` is installed in a fork, after which nothing is put back.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from runner.executor import poll
from runner.state.ledger import Ledger

LEDGER = ("upload_intended", "uploaded", "forget_upload", "create_intended", "created", "refused", "record_grant")
FILES = (
    ".lock",
    "cutting",
    "keys.npy",
    "index.npy",
    "summary.json",
    "output.jsonl",
    "errors.jsonl",
    "ids.json",
    "rows.jsonl",
    ".jsonl",
)


@dataclass(frozen=True)
class Point:
    """The `number`-th time (from 1) that a kind of step is taken, and whether it is still done."""

    kind: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.number}"


class Killer:
    """Counts steps of this process, and ends it at a point."""

    def __init__(self, point: Point | None) -> None:
        self._point = point
        self._turn = threading.Lock()
        self.counts: dict[str, int] = {}

    def install(self) -> None:
        """Wrap everything that is a step."""
        for name in LEDGER:
            self._wrap(Ledger, name, lambda *_, name=name, **__: f"ledger {name}")
        self._wrap(httpx.Client, "send", lambda _, request, **__: f"{request.method} {_kind(request.url.path)}")
        self._wrap(Path, "replace", lambda path, _: f"file {_file_kind(path)}")
        self._wrap_pieces()
        poll.MIN_INTERVAL = {"local": 0.05, "digitalocean": 0.05}

    def _step(self, kind: str) -> Callable[[str], None]:
        """Count a step; the function that is returned ends the process where it is the point, `before` or `after`."""
        with self._turn:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            point = self._point
            here = point is not None and (kind, self.counts[kind]) == (point.kind, point.number)

        def now(when: str) -> None:
            if here and point is not None and point.when == when:
                os.kill(os.getpid(), signal.SIGKILL)

        return now

    def _wrap(self, owner: Any, name: str, kind_of: Callable[..., str]) -> None:
        real = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            now = self._step(kind_of(*args, **kwargs))
            now("before")
            result = real(*args, **kwargs)
            now("after")
            return result

        setattr(owner, name, step)

    def _wrap_pieces(self) -> None:
        """Pieces of downloads: before one is handed over to be written, and after that."""
        real = httpx.Response.iter_raw

        def pieces(response: httpx.Response, *args: Any) -> Iterator[bytes]:
            for piece in real(response, *args):
                now = self._step("piece")
                now("before")
                yield piece
                now("after")

        httpx.Response.iter_raw = pieces  # type: ignore[method-assign, assignment]


def _kind(path: str) -> str:
    parts = path.strip("/").split("/")
    if parts[:2] == ["v1", "batches"]:
        return "/".join(part if part in {"v1", "batches", "files", "results", "cancel"} else "ID" for part in parts)
    return "presigned"


def _file_kind(path: Path) -> str:
    if path.parent.name == "waiting":
        return "event"
    return next((kind for kind in FILES if kind in path.name), "other")
