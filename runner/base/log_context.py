"""Log fields: the current job, shard and batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("logfields", default={})  # noqa: B039  it is never changed in place


def fields() -> Mapping[str, str]:
    """Return the current fields."""
    return _FIELDS.get()


@contextmanager
def bind(**more: str) -> Iterator[None]:
    """Add fields in this block and thread."""
    token = _FIELDS.set({**_FIELDS.get(), **more})
    try:
        yield
    finally:
        _FIELDS.reset(token)


def wrap(task: Callable[[], T], **more: str) -> Callable[[], T]:
    """Return a task with its creator's fields and these."""
    fields_here = {**_FIELDS.get(), **more}

    def run() -> T:
        with bind(**fields_here):
            return task()

    return run
